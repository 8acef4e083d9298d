# SPDX-License-Identifier: BSD-2-Clause
"""How a service's code comes into its process: read, imports first, locked, and only then run.

The code is plain source, or a package (:mod:`gentee.abi.service_package`). A locked process cannot
read files, so what the code imports from outside is found in its syntax trees, wherever in a module
a statement is, and imported before the lock. None of the service's own code runs before it; its
modules come from memory.

An import that fails ahead fails again where the service's code makes it, and says why: there a
service may catch it.
"""

import ast
import linecache
import sys
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from struct import Struct
from types import CodeType, ModuleType

from gentee.abi.service_package import (
    MAGIC,
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST,
    MAX_PACKAGE,
    name_problem,
)
from gentee.errors import TaImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAIN = "service"  # the name of a plain source's module

# What Python, or a package that is often used, imports only when a function is called; taken along
# if the text has the word.
_IMPORTED_LATE = (
    (b"strptime", "_strptime"),
    (b"idna", "encodings.idna"),
    (b"cryptography", "cryptography.hazmat.backends.openssl.backend"),
)

_HINT = "; a service is locked: all that it imports must stand in import statements of its code"

# A package, as ZIP has it; all entries are stored.
_END = Struct("<4s4xHHIIH")  # magic, disks, entries here and of all, size and place of directory, -
_ENTRY = Struct("<4s4xHH8xIIHHH8xI")  # magic flags method sizes, lengths of name extra comment, at
_FILE = Struct("<4s22xHH")  # magic, lengths of name and extra


class Source:
    """A module of the service: its text, and the name that tracebacks give the file."""

    __slots__ = ("filename", "is_package", "text", "tree")

    def __init__(self, text: bytes, filename: str, is_package: bool = False) -> None:
        self.text = text
        self.filename = filename
        self.is_package = is_package
        self.tree: ast.Module | None = None

    def code(self) -> CodeType:
        tree, self.tree = self.tree, None
        return compile(tree or self.text, self.filename, "exec", dont_inherit=True)


class Code:
    """All that a service brought: its modules, which of them is the main one, and its files."""

    __slots__ = ("files", "main", "modules")

    def __init__(self, main: str, modules: "dict[str, Source]", files: "dict[str, bytes]") -> None:
        self.main = main
        self.modules = modules
        self.files = files


# Reading


def read(payload: bytes, filename: str) -> Code:
    """The code in ``payload``.

    :param filename: what tracebacks call a plain source.
    :raises TaImageError: a package that is damaged or that no honest tool wrote.
    """
    if not payload.startswith(MAGIC):
        return Code(MAIN, {MAIN: Source(payload.rstrip(b"\0"), filename)}, {})
    files = read_package(payload)
    manifest = files.get(MANIFEST, b"")
    if not manifest or len(manifest) > MAX_MANIFEST:
        raise TaImageError(f"package: no {MANIFEST} of at most {MAX_MANIFEST} bytes")
    import json

    try:
        described = json.loads(manifest)
        main = described["main"].removesuffix(".py")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TaImageError(f"package: {MANIFEST}: {error!r}") from error
    modules = {}
    for name, content in files.items():
        if name.endswith(".py"):
            is_package = name.endswith("/__init__.py")
            dotted = name.removesuffix("/__init__.py" if is_package else ".py").replace("/", ".")
            if all(part.isidentifier() for part in dotted.split(".")):
                modules[dotted] = Source(content, name, is_package)
    if main not in modules:
        raise TaImageError(f"package: no module {main[:80]!r}, which {MANIFEST} calls the main one")
    return Code(main, modules, files)


def read_package(data: bytes) -> "dict[str, bytes]":
    """The files of a package by name; TaImageError where it is not as the TEE writes them."""
    if len(data) > MAX_PACKAGE or len(data) < _END.size:
        raise TaImageError("package: not of a possible size")
    end = len(data) - _END.size
    magic, here, count, size, start, comment = _END.unpack_from(data, end)
    if magic != b"PK\x05\x06" or comment or start + size != end:
        raise TaImageError("package: its end is not where it should be")
    if here != count or not 0 < count <= MAX_FILES:
        raise TaImageError(f"package: {count} files; there may be {MAX_FILES}")
    files: dict[str, bytes] = {}
    position, left = start, len(data)
    for _ in range(count):
        if position + _ENTRY.size > end:
            raise TaImageError("package: its directory is cut")
        magic, flags, method, packed, plain, length, extra, comment, place = _ENTRY.unpack_from(
            data, position
        )
        if magic != b"PK\x01\x02" or extra or comment:
            raise TaImageError("package: its directory is damaged")
        position += _ENTRY.size
        raw = data[position : position + length]
        position += length
        if flags & ~0x800 or method or packed != plain:
            raise TaImageError("package: an entry is not stored plainly")
        try:
            name = raw.decode("utf-8" if flags else "ascii")
        except UnicodeDecodeError:
            raise TaImageError("package: a name that is no text") from None
        problem = "twice there" if name in files else name_problem(name)
        if problem:
            raise TaImageError(f"package: {name[:80]!r}: {problem}")
        left -= plain
        files[name] = _content(data[:start], place, raw, plain)
        if left < 0:
            raise TaImageError("package: its files are larger than itself")
    if position != end:
        raise TaImageError("package: its directory is damaged")
    return files


def _content(data: bytes, place: int, name: bytes, size: int) -> bytes:
    if place + _FILE.size > len(data):
        raise TaImageError("package: a file is not in it")
    magic, length, extra = _FILE.unpack_from(data, place)
    place += _FILE.size
    if magic != MAGIC or data[place : place + length] != name:
        raise TaImageError("package: a file is not where its directory says")
    place += length + extra
    if place + size > len(data):
        raise TaImageError("package: a file is not in it")
    return data[place : place + size]


# Imports


class Wanted:
    """Modules from outside that a module imports: the name, and what it takes from there."""

    __slots__ = ("name", "parts")

    def __init__(self, name: str, parts: "Sequence[str]" = ()) -> None:
        self.name = name
        self.parts = parts


def imports_of(tree: ast.Module) -> "Iterator[Wanted]":
    """What the import statements of a module name, in functions and branches too."""
    blocks: list[ast.AST] = [tree]
    while blocks:
        block = blocks.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            statements = getattr(block, field, None)
            if not isinstance(statements, list):
                continue
            for node in statements:
                if isinstance(node, ast.Import):
                    for alias in node.names:
                        yield Wanted(alias.name)
                elif isinstance(node, ast.ImportFrom):
                    if node.module and not node.level:
                        yield Wanted(node.module, [alias.name for alias in node.names])
                elif hasattr(node, "body") or hasattr(node, "cases"):
                    blocks.append(node)


def import_outside(code: Code) -> "dict[str, str]":
    """Import what the modules of ``code`` want from outside; why, for each that cannot be had."""
    failed: dict[str, str] = {}
    own = {name.partition(".")[0] for name in code.modules}
    done: set[tuple[str, ...]] = set()
    for source in code.modules.values():
        try:
            source.tree = ast.parse(source.text, source.filename)
        except (SyntaxError, ValueError):  # it comes again where the module is imported
            continue
        for wanted in imports_of(source.tree):
            key = (wanted.name, *wanted.parts)
            if wanted.name.partition(".")[0] not in own and key not in done:
                done.add(key)
                _import(wanted, failed)
        for word, late in _IMPORTED_LATE:
            if word in source.text:
                _import(Wanted(late), failed)
    return failed


def _import(wanted: Wanted, failed: "dict[str, str]") -> None:
    try:
        __import__(wanted.name, None, None, wanted.parts, 0)
    except MemoryError:
        raise
    except BaseException as error:  # an outside module may do anything: it says so at its own place
        failed[wanted.name] = f"{type(error).__name__}: {error}"


# Running


class _Finder(Loader):
    """Finds the service's own modules, and says of all others why there are none."""

    def __init__(self, code: Code, failed: "dict[str, str]") -> None:
        self._code = code
        self._failed = failed

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: ModuleType | None = None
    ) -> ModuleSpec:
        source = self._code.modules.get(name)
        if source is not None:
            spec = ModuleSpec(name, self, origin=source.filename, is_package=source.is_package)
            spec.has_location = True
            return spec
        if any(own.startswith(f"{name}.") for own in self._code.modules):
            return ModuleSpec(name, None, is_package=True)  # a folder of modules
        reason = self._failed.get(name)
        text = f"No module named {name!r}"
        if reason is None:
            text += _HINT
        elif not reason.endswith(text):
            text = reason
        raise ModuleNotFoundError(text, name=name)

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        # Running the service's own code is what this process is for.
        exec(self._code.modules[module.__name__].code(), module.__dict__)


_code: Code | None = None


def run(code: Code, lock: "Callable[[], None]") -> ModuleType:
    """Import what ``code`` wants from outside, call ``lock``, run its main module."""
    global _code
    failed = import_outside(code)
    for name in code.modules:
        top = name.partition(".")[0]
        if top in sys.modules or top in sys.stdlib_module_names:
            raise TaImageError(f"a module of a service cannot be called {top!r}: there is another")
    lock()
    _code = code
    # Anything else would look for files. What PathFinder keeps is left alone: nobody asks it any
    # more, and to free it is to write to a hundred pages of the warm parent's, each to be copied.
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, _Finder(code, failed)]
    sys.path.clear()
    return import_module(code.main)


_REHEARSAL = b"""
import sys
from gentee.ta import TrustedApplication
class Rehearsal(TrustedApplication):
    name = "rehearsal"
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a += 1
"""


def rehearse() -> None:
    """Do with code of our own what is done with a service's, and leave nothing of it.

    A fork shares its pages with the parent until it writes to them; most of the time that a new
    process takes goes into having them copied one by one. The process that the warm parent keeps
    ahead has that behind it, and the service finds its pages written to.
    """
    code = Code("_rehearsal", {"_rehearsal": Source(_REHEARSAL, "<rehearsal>")}, {})
    finder = _Finder(code, import_outside(code))
    sys.meta_path.insert(0, finder)
    try:
        import_module(code.main)
    finally:
        sys.meta_path.remove(finder)
        sys.modules.pop(code.main, None)


def show_lines() -> None:
    """Let tracebacks show the lines of the service's own code."""
    for source in _code.modules.values() if _code is not None else ():
        lines = source.text.decode("utf-8", "replace").splitlines(keepends=True)
        linecache.cache[source.filename] = (len(source.text), None, lines, source.filename)


def resource(name: str) -> bytes:
    """The content of a file that came with the service in its package.

    :raises FileNotFoundError: there is none with this name.
    """
    content = _code.files.get(name) if _code is not None else None
    if content is None:
        raise FileNotFoundError(f"no file {name!r} in this service's package")
    return content
