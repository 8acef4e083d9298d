# SPDX-License-Identifier: BSD-2-Clause
"""The error tree.

::

    Exception
    ├── OSError                     the system call failed; the device answers -errno
    ├── TeeError                    the TEE operation failed; .code and .origin go to the client
    │   ├── GenericError            TEE_ERROR_GENERIC
    │   ├── AccessDenied            TEE_ERROR_ACCESS_DENIED
    │   ├── Cancel                  TEE_ERROR_CANCEL
    │   ├── AccessConflict          TEE_ERROR_ACCESS_CONFLICT
    │   ├── ExcessData              TEE_ERROR_EXCESS_DATA
    │   ├── BadFormat               TEE_ERROR_BAD_FORMAT
    │   ├── BadParameters           TEE_ERROR_BAD_PARAMETERS
    │   ├── BadState                TEE_ERROR_BAD_STATE
    │   ├── ItemNotFound            TEE_ERROR_ITEM_NOT_FOUND
    │   ├── NotImplementedByTee     TEE_ERROR_NOT_IMPLEMENTED
    │   ├── NotSupported            TEE_ERROR_NOT_SUPPORTED
    │   ├── NoData                  TEE_ERROR_NO_DATA
    │   ├── OutOfMemory             TEE_ERROR_OUT_OF_MEMORY
    │   ├── Busy                    TEE_ERROR_BUSY
    │   ├── CommunicationError      TEE_ERROR_COMMUNICATION
    │   ├── SecurityError           TEE_ERROR_SECURITY
    │   ├── ShortBuffer             TEE_ERROR_SHORT_BUFFER
    │   ├── ExternalCancel          TEE_ERROR_EXTERNAL_CANCEL
    │   ├── TargetDead              TEE_ERROR_TARGET_DEAD
    │   ├── MacInvalid              TEE_ERROR_MAC_INVALID
    │   ├── SignatureInvalid        TEE_ERROR_SIGNATURE_INVALID
    │   ├── CiphertextInvalid       TEE_ERROR_CIPHERTEXT_INVALID
    │   ├── StorageNoSpace          TEE_ERROR_STORAGE_NO_SPACE
    │   ├── StorageNotAvailable     TEE_ERROR_STORAGE_NOT_AVAILABLE
    │   └── CorruptObject           TEE_ERROR_CORRUPT_OBJECT
    ├── TaPanic                     the TA dies; its clients see TEE_ERROR_TARGET_DEAD
    ├── TaImageError                the loader refuses a TA: format, signature, version
    └── UserError                   one plain line for the person at the terminal

Two channels are kept apart, as in the kernel. OSError says that an ioctl failed. TeeError says that
the ioctl worked and the operation did not: the code travels in ``ret``, the origin in
``ret_origin``. Anything else that reaches a boundary is a bug of gentee's own.
"""

from gentee.abi import gp

__all__ = [
    "TeeError",
    "GenericError",
    "AccessDenied",
    "Cancel",
    "AccessConflict",
    "ExcessData",
    "BadFormat",
    "BadParameters",
    "BadState",
    "ItemNotFound",
    "NotImplementedByTee",
    "NotSupported",
    "NoData",
    "OutOfMemory",
    "Busy",
    "CommunicationError",
    "SecurityError",
    "ShortBuffer",
    "ExternalCancel",
    "TargetDead",
    "MacInvalid",
    "SignatureInvalid",
    "CiphertextInvalid",
    "StorageNoSpace",
    "StorageNotAvailable",
    "CorruptObject",
    "TaPanic",
    "TaImageError",
    "UserError",
]


class TeeError(Exception):
    """A TEE operation failed with a result code.

    ``TeeError(code)`` is for codes that no subclass has. A code that came from elsewhere (a TA, the
    wire) goes through from_code(), so that ``except ItemNotFound`` catches it.

    :param code: the TEE_Result, never TEE_SUCCESS.
    :param origin: TEE_ORIGIN_*, or None: whoever reports the error to the client decides.
    :param detail: a few words for the log. They never reach the client.
    """

    code: int
    origin: int | None
    detail: str

    def __init__(self, code: int, origin: int | None = None, detail: str = "") -> None:
        super().__init__(code, origin, detail)
        self.code = code
        self.origin = origin
        self.detail = detail

    @staticmethod
    def from_code(code: int, origin: int | None = None, detail: str = "") -> "TeeError":
        """The error for a code that came from elsewhere, as its subclass where there is one."""
        if code == gp.TEE_SUCCESS:
            raise ValueError("TEE_SUCCESS is not an error")
        cls = _subclasses.get(code)
        return TeeError(code, origin, detail) if cls is None else cls(detail, origin)

    def __str__(self) -> str:
        text = gp.result_name(self.code)
        if self.origin is not None:
            text += f" (origin {gp.origin_name(self.origin)})"
        return f"{text}: {self.detail}" if self.detail else text


class _OneCodeError(TeeError):
    """A TeeError whose class says the code: ``raise BadParameters("num_params")``."""

    def __init__(self, detail: str = "", origin: int | None = None) -> None:
        # Exception, not TeeError: args are what this __init__ takes, so that copies can be made.
        Exception.__init__(self, detail, origin)
        self.origin = origin
        self.detail = detail


class GenericError(_OneCodeError):
    """Something failed and no other code says what."""

    code = gp.TEE_ERROR_GENERIC


class AccessDenied(_OneCodeError):
    """The caller lacks the right."""

    code = gp.TEE_ERROR_ACCESS_DENIED


class Cancel(_OneCodeError):
    """The client asked for the operation to be cancelled, and it was."""

    code = gp.TEE_ERROR_CANCEL


class AccessConflict(_OneCodeError):
    """Somebody else holds the object in a way that excludes this use."""

    code = gp.TEE_ERROR_ACCESS_CONFLICT


class ExcessData(_OneCodeError):
    """More data than the operation takes."""

    code = gp.TEE_ERROR_EXCESS_DATA


class BadFormat(_OneCodeError):
    """Input data has the wrong form."""

    code = gp.TEE_ERROR_BAD_FORMAT


class BadParameters(_OneCodeError):
    """An argument is wrong."""

    code = gp.TEE_ERROR_BAD_PARAMETERS


class BadState(_OneCodeError):
    """The operation is not allowed in this state."""

    code = gp.TEE_ERROR_BAD_STATE


class ItemNotFound(_OneCodeError):
    """There is no such TA, session, object or property."""

    code = gp.TEE_ERROR_ITEM_NOT_FOUND


class NotImplementedByTee(_OneCodeError):
    """The operation should exist, and does not yet."""

    code = gp.TEE_ERROR_NOT_IMPLEMENTED


class NotSupported(_OneCodeError):
    """The operation is valid, and this TEE does not offer it."""

    code = gp.TEE_ERROR_NOT_SUPPORTED


class NoData(_OneCodeError):
    """Data was expected and none is there."""

    code = gp.TEE_ERROR_NO_DATA


class OutOfMemory(_OneCodeError):
    """Memory, or another resource, ran out."""

    code = gp.TEE_ERROR_OUT_OF_MEMORY


class Busy(_OneCodeError):
    """The TEE or the TA has no room for this now."""

    code = gp.TEE_ERROR_BUSY


class CommunicationError(_OneCodeError):
    """The other side (TA process, supplicant, network peer) cannot be reached."""

    code = gp.TEE_ERROR_COMMUNICATION


class SecurityError(_OneCodeError):
    """A check of integrity, authenticity or confinement failed."""

    code = gp.TEE_ERROR_SECURITY


class ShortBuffer(_OneCodeError):
    """The output does not fit; the size that would do is reported beside it.

    :ivar size: that size in bytes, where whoever raises this says it, else None.
    """

    code = gp.TEE_ERROR_SHORT_BUFFER

    def __init__(
        self, detail: str = "", origin: int | None = None, size: int | None = None
    ) -> None:
        super().__init__(detail, origin)
        self.size = size


class ExternalCancel(_OneCodeError):
    """An event outside the TEE ended the operation."""

    code = gp.TEE_ERROR_EXTERNAL_CANCEL


class TargetDead(_OneCodeError):
    """The TA panicked or was killed."""

    code = gp.TEE_ERROR_TARGET_DEAD


class MacInvalid(_OneCodeError):
    """A MAC, or the tag of an authenticated encryption, is not that of the data."""

    code = gp.TEE_ERROR_MAC_INVALID


class SignatureInvalid(_OneCodeError):
    """A signature is not that of the data with this key."""

    code = gp.TEE_ERROR_SIGNATURE_INVALID


class CiphertextInvalid(_OneCodeError):
    """What was encrypted is not what it was, or cannot be encrypted so."""

    code = gp.TEE_ERROR_CIPHERTEXT_INVALID


class StorageNoSpace(_OneCodeError):
    """The storage is full."""

    code = gp.TEE_ERROR_STORAGE_NO_SPACE


class StorageNotAvailable(_OneCodeError):
    """The storage cannot be used now."""

    code = gp.TEE_ERROR_STORAGE_NOT_AVAILABLE


class CorruptObject(_OneCodeError):
    """A stored object is damaged."""

    code = gp.TEE_ERROR_CORRUPT_OBJECT


_subclasses: dict[int, type[_OneCodeError]] = {
    cls.code: cls for cls in _OneCodeError.__subclasses__()
}


class TaPanic(Exception):
    """The TA panics: TEE_Panic(), or a mistake that the API punishes with a panic.

    :param code: the panic code, which clients never see.
    :param detail: a few words for the log.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        text = f"panic {gp.result_name(self.code)}"
        return f"{text}: {self.detail}" if self.detail else text


class TaImageError(Exception):
    """The loader refuses a TA image.

    :param detail: what is wrong with it.
    :param code: what the client gets; OP-TEE answers TEE_ERROR_SECURITY to most damage.
    """

    def __init__(self, detail: str, code: int = gp.TEE_ERROR_SECURITY) -> None:
        super().__init__(detail, code)
        self.detail = detail
        self.code = code

    def __str__(self) -> str:
        return self.detail


class UserError(Exception):
    """What the person at the terminal can act on: printed as one line, without a traceback.

    :param message: the line.
    :param hint: what to do about it, printed as a second line, or None.
    :param status: the exit status of the command.
    """

    def __init__(self, message: str, hint: str | None = None, status: int = 1) -> None:
        super().__init__(message, hint, status)
        self.message = message
        self.hint = hint
        self.status = status

    def __str__(self) -> str:
        return self.message
