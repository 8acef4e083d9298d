# SPDX-License-Identifier: BSD-2-Clause
"""Files in an address space: placed, relocated against each other, ready to be entered.

The order is that of ldelf (``ldelf/main.c``): the TA, then the libraries that it needs, breadth
first; all are placed before the first is relocated; symbols are searched in the same order.
"""

from collections.abc import Callable
from struct import Struct, pack, unpack_from
from typing import NamedTuple

from gentee.abi import elf, gp
from gentee.abi import optee_ta as ta
from gentee.errors import BadParameters, ItemNotFound, NotSupported, TaImageError
from gentee.ta.engine.base import PROT_EXEC, PROT_READ, PROT_WRITE
from gentee.ta.engine.space import GUARD, AddressSpace, Region, round_up
from gentee.ta.loader.image import ElfImage
from gentee.ta.loader.relocations import Kind, Relocation
from gentee.ta.loader.symbols import Symbol, bad_format

MAX_MODULES = 64

# What a TLS descriptor's resolver does: ldr x0, [x0, #8]; ret. All else stays as it is.
_TLSDESC_RESOLVER = pack("<2I", 0xF9400400, 0xD65F03C0)
_DLOPEN_FLAGS = ta.RTLD_NOW | ta.RTLD_GLOBAL | ta.RTLD_NODELETE
_NO_UUID = bytes(16)


class Module(NamedTuple):
    """A file in the address space.

    :ivar load_addr: what its addresses are relative to.
    :ivar regions: one for each of its segments, in the same order.
    :ivar phdr: where the TA finds the program headers.
    :ivar tls_mod_id: 32-bit files that have thread-local storage count from 1; else 0.
    :ivar tls_offset: 64-bit: from the thread pointer to the file's thread-local storage, or 0.
    """

    uuid: bytes
    image: ElfImage
    load_addr: int
    regions: list[Region]
    headers: Region | None
    phdr: int
    tls_mod_id: int
    tls_offset: int


class LoadedTa(NamedTuple):
    """What the core needs of a TA that is loaded.

    :ivar entry: where to enter it, final; in 32-bit TAs bit 0 selects Thumb.
    :ivar stack: the lowest address of the stack.
    :ivar stack_top: its highest plus one: the core puts parameters below it.
    """

    arch: str
    entry: int
    load_addr: int
    flags: int
    stack: int
    stack_top: int


class Loader:
    """The loader of one TA instance.

    :param space: where to.
    :param library: the image of a library by its UUID (16 bytes); raises TeeError, such as
        ItemNotFound, or TaImageError.
    """

    def __init__(self, space: AddressSpace, library: Callable[[bytes], ElfImage]) -> None:
        self._space = space
        self._library = library
        self.modules: list[Module] = []
        self._is_32bit = False
        self._next_tls_mod_id = 1
        self._next_tls_offset = ta.TCB_HEAD_SIZE
        self._resolver = 0  # address of _TLSDESC_RESOLVER once it is mapped
        self._infos: dict[bytes, Region] = {}  # arrays for libutee by the symbol that has them

    def load(self, uuid: bytes, image: ElfImage) -> LoadedTa:
        """Load a TA and the libraries that it needs; raises TaImageError or TeeError.

        After an error the space is to be thrown away.
        """
        head = image.head
        if self.modules or head is None:
            raise ValueError("not a main program, or not the first")
        self._is_32bit = image.is_32bit
        self._place(uuid, image)
        stack, stack_top = self._map_stack(head.stack_size)
        self._add(image.needed, 0)
        entry = self._entry()
        return LoadedTa(image.arch, entry, self.modules[0].load_addr, head.flags, stack, stack_top)

    def dlopen(self, uuid: bytes, flags: int) -> None:
        """Load a library and what it needs, unless it is there; raises TeeError, TaImageError.

        After an error no library is added. There is no unloading.
        """
        if flags != _DLOPEN_FLAGS:
            raise BadParameters("dlopen flags")
        if uuid == _NO_UUID or self.find(uuid) is not None:
            return
        count = len(self.modules)
        before = self._next_tls_mod_id, self._next_tls_offset
        try:
            self._add([uuid], count)
        except BaseException:
            for module in self.modules[count:]:
                for region in module.regions:
                    self._space.unmap(region, own=True)
            del self.modules[count:]
            self._next_tls_mod_id, self._next_tls_offset = before
            raise

    def dlsym(self, uuid: bytes, name: bytes) -> int:
        """The address of a symbol, of the given library first; raises ItemNotFound.

        A UUID of zeros asks all files. A thread-local symbol's is its offset in its file's block.
        """
        first = None
        if uuid != _NO_UUID:
            first = self.find(uuid)
            if first is None:
                raise ItemNotFound("dlsym in what is not loaded")
        for module in self.modules:
            if module.image.symbols is not None:
                module.image.symbols.begin()
        found = self._resolve(name, first)
        if found is None:
            raise ItemNotFound("dlsym")
        return found[0]

    def find(self, uuid: bytes) -> Module | None:
        """The module of this UUID."""
        for module in self.modules:
            if module.uuid == uuid:
                return module
        return None

    def _add(self, needed: list[bytes], start: int) -> None:
        """Place libraries and what they need, then relocate all modules from ``start`` on."""
        self._place_libraries(needed)
        at = max(start, 1)
        while at < len(self.modules):
            self._place_libraries(self.modules[at].image.needed)
            at += 1
        for module in self.modules:
            if module.image.symbols is not None:
                module.image.symbols.begin()
        for module in self.modules[start:]:
            self._relocate(module)
        self._tell_init_fini()
        self._tell_phdrs()

    def _place_libraries(self, needed: list[bytes]) -> None:
        for uuid in needed:
            if self.find(uuid) is not None:
                continue
            if len(self.modules) == MAX_MODULES:
                raise bad_format(f"more than {MAX_MODULES} libraries")
            image = self._library(uuid)
            if image.is_main or image.is_32bit != self._is_32bit:
                raise bad_format("a library is for the other architecture")
            self._place(uuid, image)

    def _place(self, uuid: bytes, image: ElfImage) -> None:
        space = self._space
        load_addr = space.place(image.span, guarded=image.is_bti)
        regions: list[Region] = []
        name = "TA" if image.is_main else "library"
        try:
            for segment in image.segments:
                memory = space.allocate(segment.memsz)
                start = segment.offset
                memory[: segment.filesz] = image.data[start : start + segment.filesz]
                # OP-TEE maps what can be written from zeroed memory, which cannot be executed.
                prot = PROT_READ
                if segment.flags & elf.PF_W:
                    prot |= PROT_WRITE
                elif segment.flags & elf.PF_X:
                    prot |= PROT_EXEC
                regions.append(space.map(load_addr + segment.vaddr, memory, prot, name, uuid))
            headers = None
            phdr = load_addr + image.phoff
            if image.is_main:
                # The headers are in no segment: they get their first page for themselves.
                memory = space.allocate(ta.SMALL_PAGE_SIZE)
                page = image.data[: ta.SMALL_PAGE_SIZE]
                memory[: len(page)] = page
                headers = space.map(
                    space.place(len(memory)), memory, PROT_READ, "ELF headers", uuid
                )
                phdr = headers.address + image.phoff
        except BaseException:
            for region in regions:
                space.unmap(region, own=True)
            raise
        mod_id = offset = 0
        if image.tls is not None:
            if image.is_32bit:
                mod_id = self._next_tls_mod_id
                self._next_tls_mod_id += 1
            elif image.tls.vaddr:
                offset = self._next_tls_offset
                self._next_tls_offset += image.tls.memsz
        self.modules.append(Module(uuid, image, load_addr, regions, headers, phdr, mod_id, offset))

    def _map_stack(self, size: int) -> tuple[int, int]:
        memory = self._space.allocate(size)
        address = self._space.place(len(memory))
        self._space.map(address, memory, PROT_READ | PROT_WRITE, "stack")
        self._space.engine.guard_stack(address - GUARD, address)
        return address, address + size

    def _entry(self) -> int:
        main = self.modules[0]
        image = main.image
        if image.head is None or not image.is_legacy:
            return image.entry + main.load_addr
        # As it is found after relocation: the load address is in it.
        region = self._space.find(main.load_addr + image.head.vaddr)
        if region is None:
            raise bad_format("ta_head is out of range")
        start = main.load_addr + image.head.vaddr - region.address
        fields = ta.TA_HEAD.unpack_from(region.memory, start)
        entry = int(fields[-1])
        if entry == ta.DEPR_ENTRY_NONE:
            raise TaImageError("a legacy TA without an entry point", gp.TEE_ERROR_GENERIC)
        image.check_entry(entry - main.load_addr)
        return entry

    # Relocation

    def _relocate(self, module: Module) -> None:
        base = module.load_addr
        code, mask = ("I", 0xFFFFFFFF) if self._is_32bit else ("Q", 0xFFFFFFFFFFFFFFFF)
        plan = module.image.relocations
        for relatives in plan.relatives:
            words = module.regions[relatives.segment].memory.cast(code)  # type: ignore[call-overload]
            if relatives.addends is None:
                for slot in relatives.slots:
                    words[slot] = words[slot] + base & mask
            else:
                for slot, addend in zip(relatives.slots, relatives.addends, strict=True):
                    words[slot] = addend + base & mask
            words.release()
        word = Struct("<" + code)
        for relocation in plan.others:
            memory = module.regions[relocation.segment].memory
            for number, value in enumerate(self._values(module, relocation, memory, word)):
                at = relocation.offset + number * word.size
                word.pack_into(memory, at, value & mask)

    def _values(
        self, module: Module, relocation: Relocation, memory: memoryview, word: Struct
    ) -> tuple[int, ...]:
        """The words that a relocation stores."""
        kind, _segment, offset, name, optional, addend = relocation
        if kind is Kind.SYMBOL:
            return (self._required(name, optional)[0],)
        if kind is Kind.RELATIVE:
            return (addend + module.load_addr,)
        if kind is Kind.ADD:
            (there,) = word.unpack_from(memory, offset)
            return (there + module.load_addr + addend,)
        if kind is Kind.ADD_CONSTANT:
            (there,) = word.unpack_from(memory, offset)
            return (there + addend,)
        if kind is Kind.TLS_TPREL:
            return (self._thread_offset(module, name, optional) + addend,)
        if kind is Kind.TLS_DESC:
            value = self._thread_offset(module, name, optional) + addend
            return (self._map_resolver(), value)
        if kind is Kind.TLS_MODULE:
            found = None if name is None else self._resolve(name)
            return ((module if found is None else found[1]).tls_mod_id,)
        found = None if name is None else self._resolve(name)
        return (0 if found is None else found[0],)

    def _thread_offset(self, module: Module, name: bytes | None, optional: bool) -> int:
        if name is None:
            return module.tls_offset
        value, owner = self._required(name, optional)
        return value + (owner or module).tls_offset

    def _required(self, name: bytes | None, optional: bool) -> tuple[int, Module | None]:
        found = None if name is None else self._resolve(name)
        if found is not None:
            return found
        if optional:
            return 0, None
        text = (name or b"").decode("ascii", "backslashreplace")[:200]
        raise TaImageError(f"symbol {text} is not found", gp.TEE_ERROR_ITEM_NOT_FOUND)

    def _resolve(self, name: bytes, first: Module | None = None) -> tuple[int, Module] | None:
        """The final value of a symbol and the module that has it."""
        for module in self.modules if first is None else [first, *self.modules]:
            table = module.image.symbols
            symbol: Symbol | None = None if table is None else table.lookup(name)
            if symbol is not None:
                value = symbol.value if symbol.absolute else symbol.value + module.load_addr
                return value, module
        return None

    def _map_resolver(self) -> int:
        if not self._resolver:
            memory = self._space.allocate(len(_TLSDESC_RESOLVER))
            memory[: len(_TLSDESC_RESOLVER)] = _TLSDESC_RESOLVER
            address = self._space.place(len(memory))
            self._space.map(address, memory, PROT_READ | PROT_EXEC, "TLS descriptor resolver")
            self._resolver = address
        return self._resolver

    # What libutee reads

    def _tell_phdrs(self) -> None:
        """Fill in __elf_phdr_info, if there is one: the files in memory."""
        found = self._resolve(b"__elf_phdr_info")
        if found is None:
            return
        address = found[0]
        layout = ta.ELF_PHDR_INFO32 if self._is_32bit else ta.ELF_PHDR_INFO64
        entry = ta.DL_PHDR_INFO32 if self._is_32bit else ta.DL_PHDR_INFO64
        memory = self._info(address, layout.size, "__elf_phdr_info")
        array = self._array(b"__elf_phdr_info", entry.size * len(self.modules))
        position = 0
        for module in self.modules:
            image = module.image
            name = address + ta.ELF_PHDR_INFO_ZERO
            if image.soname is not None:
                name = module.load_addr + image.soname
            tls = 0 if image.tls is None or self._is_32bit else image.tls.vaddr
            entry.pack_into(
                array.memory, position, module.load_addr, name, module.phdr, image.phnum,
                1, 0, module.tls_mod_id, tls,
            )  # fmt: skip
            position += entry.size
        _reserved, _count, reserved2, zero, _dlpi = layout.unpack_from(memory)
        layout.pack_into(memory, 0, 0, len(self.modules), reserved2, zero, array.address)

    def _tell_init_fini(self) -> None:
        """Fill in __init_fini_info, which TAs of OP-TEE 3.9 have instead."""
        found = self._resolve(b"__init_fini_info")
        if found is None:
            return
        layout = ta.INIT_FINI_INFO32 if self._is_32bit else ta.INIT_FINI_INFO64
        entry = ta.INIT_FINI32 if self._is_32bit else ta.INIT_FINI64
        memory = self._info(found[0], layout.size, "__init_fini_info")
        array = self._array(b"__init_fini_info", entry.size * len(self.modules))
        word = 4 if self._is_32bit else 8
        position = 0
        for module in self.modules:
            flags, *_rest = entry.unpack_from(array.memory, position)
            if not flags & ta.IFS_VALID:
                init, fini = module.image.init_array, module.image.fini_array
                entry.pack_into(
                    array.memory, position, ta.IFS_VALID,
                    init[1] // word & 0xFFFF, fini[1] // word & 0xFFFF,
                    init[0] and init[0] + module.load_addr, fini[0] and fini[0] + module.load_addr,
                )  # fmt: skip
            position += entry.size
        layout.pack_into(memory, 0, 0, len(self.modules), 0, array.address)

    def _info(self, address: int, size: int, name: str) -> memoryview:
        """The memory of a structure that the TA has for us."""
        memory = self._space.view(address, size, PROT_READ | PROT_WRITE)
        (reserved,) = unpack_from("<I", memory)
        if reserved:
            raise NotSupported(f"{name} has another version")
        return memory

    def _array(self, symbol: bytes, size: int) -> Region:
        """Memory of the TA for an array of ours; when it grows its contents move along."""
        region = self._infos.get(symbol)
        if region is not None and region.size >= size:
            return region
        memory = self._space.allocate(round_up(size))
        if region is not None:
            memory[: region.size] = region.memory
            self._space.unmap(region, own=True)
        address = self._space.place(len(memory))
        region = self._space.map(address, memory, PROT_READ | PROT_WRITE, "loader data", symbol)
        self._infos[symbol] = region
        return region


__all__ = ["MAX_MODULES", "LoadedTa", "Loader", "Module"]
