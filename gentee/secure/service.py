# SPDX-License-Identifier: BSD-2-Clause
"""A trusted service as its file describes it, without running it.

A Python service is a file ``*.py`` with one class that derives from ``TrustedApplication`` and
says what it is in literal class attributes. They are read from the syntax tree: the code of a
service runs in its own process only. A package has a manifest that says the same
(:mod:`gentee.secure.package`), a TA of OP-TEE its ``ta_head`` (:mod:`gentee.secure.elf_service`).
"""

from gentee.abi.gp import TEE_ERROR_BUSY
from gentee.errors import TaImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")

_UUID_GROUPS = [8, 4, 4, 4, 12]  # digits of each
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
MAX_SOURCE = 16 << 20  # bytes; what is larger is no service

IMAGE_END = ".ta"  # of the names of signed images
ELF_END = ".elf"  # of TAs without a signed header

# Literal attributes of a service's class, with their defaults.
_ATTRIBUTES: dict[str, object] = {
    "uuid": None,
    "name": "",
    "version": 0,
    "description": "",
    "single_instance": False,
    "multi_session": False,
    "keep_alive": False,
    "apis": ("GP_TEEv1.3",),
    "properties": {},
}

# TEE_TS_MAX_APIS, and TEE_TS_API_SIZE with its NUL: gentee.abi.gentee_tee.
_MAX_APIS = 8
_MAX_API = 31

_MAX_PROPERTIES = 64
_MAX_PROPERTY_NAME = 128  # bytes
_MAX_PROPERTY = 4096  # bytes of a value
_RESERVED = "gpd."  # Internal Core API section 4.4: names that GlobalPlatform gives


def parse_uuid(text: str) -> bytes:
    """The 16 bytes of a UUID in its usual form; ValueError for anything else."""
    groups = text.split("-")
    digits = "".join(groups)
    if [len(group) for group in groups] != _UUID_GROUPS or not _HEX_DIGITS.issuperset(digits):
        raise ValueError(f"not a UUID: {text!r}")
    return bytes.fromhex(digits)


def format_uuid(uuid: bytes) -> str:
    """The usual form of a UUID's 16 bytes."""
    h = uuid.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class Service:
    """A trusted service as its file describes it (GP TEE Internal Core API 1.3.1 section 4.5).

    :param path: its file; empty if it is installed.
    :param class_name: the class in a source; empty if a manifest describes it.
    """

    __slots__ = (
        "admitted", "apis", "arch", "class_name", "description", "installed", "is_elf",
        "is_library", "keep_alive", "keep_crashed", "multi_session", "name", "path", "payload",
        "properties", "signature", "signed", "signer", "single_instance", "subkeys", "ta_flags",
        "uuid", "version",
    )  # fmt: skip

    def __init__(self, path: str, class_name: str, attributes: dict[str, object]) -> None:
        self.path = path
        self.class_name = class_name
        self.uuid = parse_uuid(_typed(attributes, "uuid", str))
        self.name: str = _typed(attributes, "name", str) or class_name.lower()
        self.version: int = _typed(attributes, "version", int)
        self.description: str = _typed(attributes, "description", str)
        self.single_instance: bool = _typed(attributes, "single_instance", bool)
        self.multi_session: bool = _typed(attributes, "multi_session", bool)
        self.keep_alive: bool = _typed(attributes, "keep_alive", bool)
        # GP: both flags mean something for single instances only.
        if not self.single_instance and (self.multi_session or self.keep_alive):
            raise TaImageError(f"{path}: multi_session and keep_alive need single_instance")
        self.apis = _apis(attributes.get("apis", _ATTRIBUTES["apis"]))
        self.properties = _properties(attributes.get("properties", {}))
        self.keep_crashed = False  # a panicked instance stays, and refuses sessions: OP-TEE's TAs
        self.is_elf = False  # a TA of OP-TEE, or a library of such TAs
        self.is_library = False  # which is no service
        self.arch = ""  # of an ELF file: "aarch64" or "arm"
        self.ta_flags = 0  # ta_head.flags
        self.signature: tuple[int, int, int] = (0, 0, 0)
        self.installed = False  # in the TEE's own state, not in a folder
        self.signed = False  # it came in a signed image
        self.admitted = False  # its version was compared with those before
        self.signer = ""  # the fingerprint of the key
        self.subkeys: tuple[tuple[bytes, int], ...] = ()  # UUID and version of each, in an image
        self.payload: bytes | None = None  # of a signed image that was verified in this run

    def read(self) -> bytes:
        """The source, as it is now, or what a signed image has inside: a package or an ELF file."""
        payload = self.payload  # looked at once: it may be let go of meanwhile
        if payload is not None:
            return payload
        if self.signed:
            raise TaImageError(f"{self.name}: its image was let go of just now", TEE_ERROR_BUSY)
        with open(self.path, "rb") as file:
            return file.read(MAX_SOURCE)


def _typed(attributes: dict[str, object], name: str, kind: "type[_T]") -> "_T":
    value = attributes.get(name, _ATTRIBUTES[name])
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be a {kind.__name__}")
    return value


def _apis(value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or len(value) > _MAX_APIS:
        raise ValueError(f"apis must be up to {_MAX_APIS} names")
    for name in value:
        is_name = isinstance(name, str) and name.isascii() and name.isprintable()
        if not is_name or not 0 < len(name) <= _MAX_API or " " in name:
            raise ValueError(f"apis: a name has 1 to {_MAX_API} characters and no space")
    return tuple(value)


def _properties(value: object) -> dict[str, "str | int | bool | bytes"]:
    if not isinstance(value, dict) or len(value) > _MAX_PROPERTIES:
        raise ValueError(f"properties must be a dict of up to {_MAX_PROPERTIES}")
    for name, content in value.items():
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError("properties: a name must be printable text")
        if not 0 < len(name.encode()) <= _MAX_PROPERTY_NAME or name.startswith(_RESERVED):
            raise ValueError(f"properties: {name[:_MAX_PROPERTY_NAME]!r} cannot be a name")
        if isinstance(content, str | bytes):
            size = len(content.encode() if isinstance(content, str) else content)
            if size > _MAX_PROPERTY or (isinstance(content, str) and "\0" in content):
                raise ValueError(f"properties: {name!r} has more than {_MAX_PROPERTY} bytes")
        elif not isinstance(content, int) or not 0 <= content < 1 << 64:
            raise ValueError(f"properties: {name!r} must be text, a number, a bool or bytes")
    return dict(value)


def describe(path: str, source: bytes) -> Service | None:
    """The service that ``source`` defines, None if it defines none.

    Raises :class:`TaImageError` where it says that it is one, but not which.
    """
    import ast  # only who looks for a service pays for it

    try:
        tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TaImageError(f"{path}: {error}") from error
    found: list[ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                if name == "TrustedApplication":
                    found.append(node)
                    break
    if not found:
        return None
    if len(found) > 1:
        raise TaImageError(f"{path}: more than one TrustedApplication in one file")
    attributes: dict[str, object] = {}
    for statement in found[0].body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name) and target.id in _ATTRIBUTES:
            try:
                attributes[target.id] = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                raise TaImageError(f"{path}: {target.id} must be a literal") from None
    try:
        return Service(path, found[0].name, attributes)
    except ValueError as error:
        raise TaImageError(f"{path}: {error}") from error
