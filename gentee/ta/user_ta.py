# SPDX-License-Identifier: BSD-2-Clause
"""A user TA of OP-TEE's: its address space, its entry points, its system calls.

OP-TEE: core/kernel/user_ta.c. What libutee does inside of the TA (sessions of the instance, create
and destroy entry points, properties of its own) is the TA's own business and is not done here.
"""

from collections.abc import Callable

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_OUT_OF_MEMORY, TEE_SUCCESS
from gentee.errors import OutOfMemory, TeeError
from gentee.ta.client_memory import SHARED, ClientMemory
from gentee.ta.engine.base import PROT_READ, PROT_WRITE, Engine
from gentee.ta.engine.calls import arguments, params_address
from gentee.ta.engine.space import AddressSpace, BadAddress
from gentee.ta.loader.image import ElfImage
from gentee.ta.loader.link import Loader
from gentee.ta.requests import Channel
from gentee.ta.svc.control import flush_log
from gentee.ta.svc.table import HANDLERS, not_supported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject
    from gentee.crypto.states import CryptState
    from gentee.ta.stored import Stored
    from gentee.ta.svc.sessions import Session

# Objects and operations of a TA, at once. The heap of OP-TEE's core has room for fewer.
MAX_HANDLES = 4096

_RESULT = 0xFFFF_FFFF
_HANDLES = 0xFFFF_FFFF


class UserTa:
    """The context of the one TA of this process (struct user_ta_ctx), as system calls see it.

    :ivar session: whose entry runs, as the TA knows it.
    :ivar clients: login and UUID of each session's client.
    :ivar masked: whether a cancellation is hidden from the TA; true at each entry.
    :ivar panic_registers: where the TA saved registers before it panicked; 0 if it did not.
    :ivar doing: the entry that runs: its function, session and command.
    :ivar open_sessions: those with other TAs, by the numbers that the TA knows them by.
    :ivar objects: cryptographic objects, by handle.
    :ivar states: cryptographic operations, by handle.
    :ivar stored: where objects that are persistent are kept, by handle.
    :ivar enumerations: of persistent objects, by handle: whether they were started.
    :ivar log_rest: what the TA has logged of a line that it has not ended yet.
    :ivar unsupported: numbers of system calls that it was told about that they are not there.
    """

    def __init__(
        self,
        uuid: bytes,
        engine: Engine,
        memory_limit: int,
        library: Callable[[bytes], ElfImage],
        channel: Channel,
    ) -> None:
        self.uuid = uuid
        self.engine = engine
        self.arch = engine.arch
        self.is_32bit = engine.word == 4
        self.space = AddressSpace(engine, memory_limit)
        self.loader = Loader(self.space, library)
        self.client_memory = ClientMemory(self.space)
        self.channel = channel
        self.flags = 0
        self.session = 0
        self.clients: dict[int, tuple[int, bytes]] = {}
        self.masked = True
        self.panic_registers = 0
        self.doing = (0, 0, 0)
        self.open_sessions: dict[int, Session] = {}
        self.objects: dict[int, CryptObject] = {}
        self.states: dict[int, CryptState] = {}
        self.stored: dict[int, Stored] = {}
        self.enumerations: dict[int, bool] = {}
        self._last_handle = 0
        self.log_rest = b""
        self.unsupported: set[int] = set()
        self._entry = 0
        self._params_address = 0
        self._params = memoryview(b"")

    # Of the process.

    def log(self, level: int, text: str) -> None:
        """Write lines to the log."""
        raise NotImplementedError

    def wait(self, milliseconds: int, masked: bool) -> None:
        """Wait; raises Cancel where the client asks for it, unless ``masked``."""
        raise NotImplementedError

    def cancelled(self) -> bool:
        """Whether the client asks to end the command that runs."""
        raise NotImplementedError

    def load(self, image: ElfImage) -> None:
        """Load the TA and its libraries. Nothing of it runs.

        :raises TaImageError: it is refused.
        :raises TeeError: a library is not there, or there is no memory.
        """
        self.loaded = loaded = self.loader.load(self.uuid, image)
        self.flags = loaded.flags
        self._entry = loaded.entry
        self._params_address = params_address(loaded.stack_top)
        size = abi.UTEE_PARAMS.size
        self._params = self.space.view(self._params_address, size, PROT_READ | PROT_WRITE)

    def new_handle(self) -> int:
        """A handle for a new object or operation: not 0, and not one of before for a long time.

        :raises OutOfMemory: there are too many already.
        """
        if len(self.objects) + len(self.states) + len(self.enumerations) >= MAX_HANDLES:
            raise OutOfMemory(f"{MAX_HANDLES} objects and operations")
        while True:
            self._last_handle = handle = self._last_handle % _HANDLES + 1
            if not any(handle in of for of in (self.objects, self.states, self.enumerations)):
                return handle

    @property
    def client(self) -> tuple[int, bytes]:
        """Login and UUID of the client whose entry runs."""
        return self.clients[self.session]

    def enter(self, func: int, cmd: int, types: int, vals: tuple[int, ...]) -> int:
        """Enter the TA and serve its system calls; its TEE_Result.

        :raises Fault: it cannot go on.
        :raises TaPanic: it does not want to.
        """
        self.masked = True
        self.doing = (func, self.session, cmd)
        address, engine, space = self._params_address, self.engine, self.space
        abi.UTEE_PARAMS.pack_into(self._params, 0, types, *vals)
        engine.enter(self._entry, address, (func, self.session, address, cmd))
        number = engine.run()
        while number != abi.TEE_SCN_RETURN:
            try:
                if number <= abi.TEE_SCN_MAX:
                    result = HANDLERS[number](self, arguments(engine, space)) or TEE_SUCCESS
                else:
                    result = not_supported(self, number)
            except TeeError as error:
                result = error.code
            except MemoryError:
                result = TEE_ERROR_OUT_OF_MEMORY
            number = engine.resume(result)
        if self.log_rest:
            flush_log(self)
        return engine.args[0] & _RESULT

    def params(self) -> tuple[int, ...]:
        """The eight values of the parameters, as the TA left them."""
        return abi.UTEE_PARAMS.unpack_from(self._params)[1:]

    # Memory for system calls.

    def read(self, address: int, size: int) -> bytes:
        """A copy of memory that the TA may read; raises BadAddress."""
        return self.space.read(address, size)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write to memory that the TA may write to; raises BadAddress, and then nothing was."""
        self.space.write(address, data)

    def read_private(self, address: int, size: int) -> bytes:
        """The same, of private memory of the TA's only, and in one region."""
        return bytes(self._private(address, size, PROT_READ))

    def write_private(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """The same for writing."""
        self._private(address, len(data), PROT_READ | PROT_WRITE)[:] = data

    def is_private(self, address: int, size: int) -> bool:
        """Whether a range is in one region of the TA's private memory."""
        region = self.space.find(address)
        return region is not None and region.owner != SHARED and size <= region.end - address

    def _private(self, address: int, size: int, prot: int) -> memoryview:
        if size and not self.is_private(address, size):
            raise BadAddress(f"{size} bytes at {address:#x} are not the TA's own")
        return self.space.view(address, size, prot) if size else memoryview(b"")


__all__ = ["SHARED", "UserTa"]
