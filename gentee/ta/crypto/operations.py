# SPDX-License-Identifier: BSD-2-Clause
"""Operations, their keys and states: TEE Internal Core API 1.3.1 section 6.2, as OP-TEE's libutee
has them (lib/libutee/tee_api_operations.c). The work is done by :mod:`gentee.crypto.states`.
"""

from typing import NamedTuple

from gentee.abi import gp_crypto as gp
from gentee.abi.gp import (
    TEE_ERROR_CORRUPT_OBJECT,
    TEE_ERROR_CORRUPT_OBJECT_2,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SECURITY,
    TEE_ERROR_STORAGE_NOT_AVAILABLE,
    TEE_ERROR_STORAGE_NOT_AVAILABLE_2,
)
from gentee.crypto.objects import CryptObject
from gentee.crypto.states import CryptState
from gentee.errors import NotSupported, SecurityError
from gentee.ta.crypto.algorithms import MAX_KEY_SIZES, TWO_BLOCKS, TWO_KEYS, USES, block_size
from gentee.ta.crypto.blocks import Blocks
from gentee.ta.crypto.objects import ObjectHandle, copy_object, object_of
from gentee.ta.crypto.results import bad_parameters, results

__all__ = [
    "OperationHandle",
    "TEE_AllocateOperation",
    "TEE_CopyOperation",
    "TEE_FreeOperation",
    "TEE_GetOperationInfo",
    "TEE_GetOperationInfoMultiple",
    "TEE_OperationInfo",
    "TEE_OperationInfoKey",
    "TEE_OperationInfoMultiple",
    "TEE_ResetOperation",
    "TEE_SetOperationKey",
    "TEE_SetOperationKey2",
]

_INITIAL = gp.TEE_OPERATION_STATE_INITIAL
_KEY_SET = gp.TEE_HANDLE_FLAG_KEY_SET
_INITIALIZED = gp.TEE_HANDLE_FLAG_INITIALIZED
_EXTRACTING = gp.TEE_HANDLE_FLAG_EXTRACTING
_EXPECT_TWO_KEYS = gp.TEE_HANDLE_FLAG_EXPECT_TWO_KEYS

_BROKEN = TEE_ERROR_CORRUPT_OBJECT, TEE_ERROR_STORAGE_NOT_AVAILABLE  # of stored keys only
_BROKEN_2 = TEE_ERROR_CORRUPT_OBJECT_2, TEE_ERROR_STORAGE_NOT_AVAILABLE_2


class OperationHandle:
    """An operation of this service (TEE_OperationHandle). Services pass it on, and no more.

    :ivar operation_state: TEE_OPERATION_STATE_*
    :ivar handle_state: TEE_HANDLE_FLAG_*
    :ivar keys: its own copies: none, one or two.
    :ivar blocks: data that is not processed yet.
    :ivar digest: what is left to extract of a digest that is made; None before.
    :ivar freed: whether it was freed; any further use is a panic.
    """

    __slots__ = (
        "algorithm",
        "blocks",
        "digest",
        "digest_length",
        "freed",
        "handle_state",
        "key_size",
        "keys",
        "max_key_size",
        "mode",
        "operation_class",
        "operation_state",
        "required_key_usage",
        "state",
    )

    def __init__(self, algorithm: int, mode: int, max_key_size: int) -> None:
        """As TEE_AllocateOperation."""
        self.freed = True  # until it is complete
        use = USES[algorithm][mode]
        self.algorithm = algorithm
        self.mode = mode
        self.max_key_size = max_key_size
        self.key_size = 0
        self.operation_class = gp.TEE_ALG_GET_CLASS(algorithm)
        self.operation_state = _INITIAL
        self.digest_length = gp.TEE_ALG_GET_DIGEST_SIZE(algorithm)
        self.required_key_usage = use.usage
        self.handle_state = 0
        self.blocks = Blocks(block_size(algorithm), algorithm in TWO_BLOCKS)
        self.digest: bytes | None = None
        self.keys: tuple[CryptObject, ...] = ()
        if self.is_digest:
            self.state = CryptState(algorithm, mode)
            self.reset()
            self.handle_state |= _KEY_SET  # as version 1.1 of the document wants it
        else:
            key_type = gp.TEE_ALG_GET_KEY_TYPE(algorithm, use.private)
            count = 1
            if algorithm in TWO_KEYS:
                count = 2
                self.handle_state |= _EXPECT_TWO_KEYS
            self.keys = tuple(CryptObject(key_type, max_key_size // count) for _ in range(count))
            self.state = CryptState(algorithm, mode, *self.keys)
        self.freed = False

    def __repr__(self) -> str:
        name = gp.algorithm_name(self.algorithm) if not self.freed else "freed"
        return f"OperationHandle({name})"

    def __del__(self) -> None:
        if not self.freed:
            self.free()

    @property
    def is_digest(self) -> bool:
        return self.operation_class == gp.TEE_OPERATION_DIGEST

    @property
    def has_key(self) -> bool:
        return self.handle_state & _KEY_SET != 0

    @property
    def is_initialized(self) -> bool:
        return self.handle_state & _INITIALIZED != 0

    @property
    def is_active(self) -> bool:
        return self.operation_state == gp.TEE_OPERATION_STATE_ACTIVE

    @property
    def is_extracting(self) -> bool:
        return self.operation_state == gp.TEE_OPERATION_STATE_EXTRACTING

    def reset(self) -> None:
        """Be as before the first data: ready for it if this is a digest.

        libutee leaves TEE_HANDLE_FLAG_EXTRACTING and a place in the digest behind.
        """
        self.operation_state = _INITIAL
        self.handle_state &= ~_EXTRACTING
        self.digest = None
        if self.is_digest:
            self.state.hash_init()
            self.handle_state |= _INITIALIZED
        else:
            self.handle_state &= ~_INITIALIZED

    def finish(self) -> None:
        """The result was given."""
        self.handle_state &= ~_INITIALIZED
        self.operation_state = _INITIAL

    def free(self) -> None:
        """Wipe the keys, and forget the rest."""
        self.freed = True
        self.state.end()
        self.blocks.wipe()
        for key in self.keys:
            key.wipe()

    def clear_keys(self) -> None:
        """Take the keys away."""
        for key in self.keys:
            key.reset()
        self.handle_state &= ~_KEY_SET

    def set_key(self, key: CryptObject | None) -> None:
        """set_operation_key()"""
        if key is not None:
            if self.is_digest:
                raise bad_parameters("a digest has no key")
            if self.handle_state & _EXPECT_TWO_KEYS:
                raise bad_parameters("the operation has two keys")
            self._set_keys(key)
        else:
            self.clear_keys()
            self._keys_changed()

    def set_keys(self, key1: CryptObject | None, key2: CryptObject | None) -> None:
        """set_operation_key2()"""
        if key1 is not None and key2 is not None:
            if not self.handle_state & _EXPECT_TWO_KEYS:
                raise bad_parameters("the operation has one key, or none")
            self._set_keys(key1, key2)
        elif key1 is not None or key2 is not None:
            raise bad_parameters("one key of two")
        else:
            self.clear_keys()
            self._keys_changed()

    def _set_keys(self, *keys: CryptObject) -> None:
        for key in keys:
            if key.obj_usage & self.required_key_usage != self.required_key_usage:
                raise bad_parameters("the key is not for this usage")
        size = keys[0].obj_size
        if any(key.obj_size != size for key in keys) or size > self.max_key_size:
            raise bad_parameters(f"a key of {size} bits, or two of different sizes")
        self.clear_keys()
        for own, key in zip(self.keys, keys, strict=True):
            copy_object(own, key)
        self.handle_state |= _KEY_SET
        self.key_size = size
        self._keys_changed()

    def _keys_changed(self) -> None:
        if self.operation_state != _INITIAL:
            self.reset()


class TEE_OperationInfo(NamedTuple):
    """What an operation is (section 6.1.3); sizes of keys in bits, of digests and MACs in bytes."""

    algorithm: int
    operation_class: int
    mode: int
    digest_length: int
    max_key_size: int
    key_size: int
    required_key_usage: int
    handle_state: int


class TEE_OperationInfoKey(NamedTuple):
    """A key of an operation: bits, 0 if it is not set; TEE_USAGE_* that it must have."""

    key_size: int
    required_key_usage: int


class TEE_OperationInfoMultiple(NamedTuple):
    """The same with the state TEE_OPERATION_STATE_* and all keys (section 6.1.4)."""

    algorithm: int
    operation_class: int
    mode: int
    digest_length: int
    max_key_size: int
    handle_state: int
    operation_state: int
    key_information: tuple[TEE_OperationInfoKey, ...]


def operation_of(
    handle: OperationHandle | None, operation_class: int | None = None
) -> OperationHandle:
    """The operation, if it is one of this class; else a panic."""
    if handle is None or handle.freed:
        raise bad_parameters("no operation, or one that was freed")
    if operation_class is not None and handle.operation_class != operation_class:
        raise bad_parameters(f"an operation of {gp.algorithm_name(handle.algorithm)}")
    return handle


@results(TEE_ERROR_OUT_OF_MEMORY, TEE_ERROR_NOT_SUPPORTED)
def TEE_AllocateOperation(algorithm: int, mode: int, max_key_size: int = 0) -> OperationHandle:
    """An operation without a key (section 6.2.1).

    :param algorithm: TEE_ALG_*
    :param mode: TEE_MODE_*
    :param max_key_size: of its key, in bits; of both together if it has two.
    :raises NotSupported: there is no such operation.
    """
    if max_key_size not in MAX_KEY_SIZES.get(algorithm, (max_key_size,)):
        raise NotSupported(f"{gp.algorithm_name(algorithm)} with keys of {max_key_size} bits")
    if mode not in USES.get(algorithm, ()):
        raise NotSupported(f"{gp.algorithm_name(algorithm)} in mode {mode:#x}")
    return OperationHandle(algorithm, mode, max_key_size)


@results()
def TEE_FreeOperation(operation: OperationHandle | None) -> None:
    """Wipe an operation; any further use is a panic (section 6.2.2). Python does not need it."""
    if operation is not None:
        operation_of(operation).free()


@results()
def TEE_GetOperationInfo(operation: OperationHandle) -> TEE_OperationInfo:
    """What an operation is (section 6.2.3). Of one with two keys both are 0 here."""
    found = operation_of(operation)
    two = found.handle_state & _EXPECT_TWO_KEYS
    return TEE_OperationInfo(
        found.algorithm,
        found.operation_class,
        found.mode,
        found.digest_length,
        found.max_key_size,
        0 if two else found.key_size,
        0 if two else found.required_key_usage,
        found.handle_state,
    )


@results()
def TEE_GetOperationInfoMultiple(operation: OperationHandle) -> TEE_OperationInfoMultiple:
    """The same with its state and all its keys (section 6.2.4)."""
    found = operation_of(operation)
    return TEE_OperationInfoMultiple(
        found.algorithm,
        found.operation_class,
        found.mode,
        found.digest_length,
        found.max_key_size,
        found.handle_state,
        found.operation_state,
        tuple(TEE_OperationInfoKey(key.obj_size, found.required_key_usage) for key in found.keys),
    )


@results()
def TEE_ResetOperation(operation: OperationHandle) -> None:
    """Back to before the start; keys stay (section 6.2.5). A panic if there is no key yet."""
    reset_operation(operation_of(operation))


def reset_operation(operation: OperationHandle) -> None:
    """TEE_ResetOperation of an operation that there is."""
    if not operation.has_key:
        raise bad_parameters("the operation has no key")
    operation.reset()


@results(*_BROKEN)
def TEE_SetOperationKey(operation: OperationHandle, key: ObjectHandle | None) -> None:
    """Copy a key into an operation, None takes it away (section 6.2.6).

    A panic if the operation was started, takes two keys or none, or if the key is longer than it
    was allocated for, is of another type, or may not be used for this.
    """
    found = operation_of(operation)
    if found.is_initialized:
        raise bad_parameters("the operation was started")
    found.set_key(None if key is None else object_of(key))


@results(TEE_ERROR_SECURITY, *_BROKEN, *_BROKEN_2)
def TEE_SetOperationKey2(
    operation: OperationHandle, key1: ObjectHandle | None, key2: ObjectHandle | None
) -> None:
    """Copy the two keys of XTS or SM2 KEP into an operation, two Nones take them away (6.2.7).

    A panic where the one for a key has one, and if the keys have different sizes.

    :raises SecurityError: they are the same object.
    """
    found = operation_of(operation)
    if key1 is not None and key1 is key2:
        raise SecurityError("two keys, and both are the same")
    if found.operation_state != _INITIAL:
        raise bad_parameters("the operation was started")
    first = None if key1 is None else object_of(key1)
    found.set_keys(first, None if key2 is None else object_of(key2))


@results()
def TEE_CopyOperation(destination: OperationHandle, source: OperationHandle) -> None:
    """Give an operation the keys and the state of another one (section 6.2.8).

    A panic if algorithm or mode differ, if a key is longer than ``destination`` was allocated for,
    or if operations of this class have no state: asymmetric encryption, signatures, derivation.
    """
    to, of = operation_of(destination), operation_of(source)
    if to.algorithm != of.algorithm or to.mode != of.mode:
        raise bad_parameters("operations of different algorithms or modes")
    if len(of.keys) == 1:
        to.set_key(of.keys[0] if of.has_key else None)
    elif of.keys:
        if to.operation_state != _INITIAL:
            raise bad_parameters("the operation was started")
        to.set_keys(*(of.keys if of.has_key else (None, None)))
    to.handle_state = of.handle_state
    to.key_size = of.key_size
    to.digest_length = of.digest_length
    to.operation_state = of.operation_state
    to.digest = of.digest
    to.blocks.copy_from(of.blocks)
    to.state.copy_from(of.state)
