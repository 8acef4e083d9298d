# SPDX-License-Identifier: BSD-2-Clause
"""gentee.errors: codes, origins, and which class a code becomes."""

import copy

import pytest

from gentee import errors
from gentee.abi import gp
from gentee.errors import TaImageError, TaPanic, TeeError, UserError

CLASSES = {
    errors.GenericError: gp.TEE_ERROR_GENERIC,
    errors.AccessDenied: gp.TEE_ERROR_ACCESS_DENIED,
    errors.Cancel: gp.TEE_ERROR_CANCEL,
    errors.AccessConflict: gp.TEE_ERROR_ACCESS_CONFLICT,
    errors.ExcessData: gp.TEE_ERROR_EXCESS_DATA,
    errors.BadFormat: gp.TEE_ERROR_BAD_FORMAT,
    errors.BadParameters: gp.TEE_ERROR_BAD_PARAMETERS,
    errors.BadState: gp.TEE_ERROR_BAD_STATE,
    errors.ItemNotFound: gp.TEE_ERROR_ITEM_NOT_FOUND,
    errors.NotImplementedByTee: gp.TEE_ERROR_NOT_IMPLEMENTED,
    errors.NotSupported: gp.TEE_ERROR_NOT_SUPPORTED,
    errors.NoData: gp.TEE_ERROR_NO_DATA,
    errors.OutOfMemory: gp.TEE_ERROR_OUT_OF_MEMORY,
    errors.Busy: gp.TEE_ERROR_BUSY,
    errors.CommunicationError: gp.TEE_ERROR_COMMUNICATION,
    errors.SecurityError: gp.TEE_ERROR_SECURITY,
    errors.ShortBuffer: gp.TEE_ERROR_SHORT_BUFFER,
    errors.ExternalCancel: gp.TEE_ERROR_EXTERNAL_CANCEL,
    errors.TargetDead: gp.TEE_ERROR_TARGET_DEAD,
    errors.MacInvalid: gp.TEE_ERROR_MAC_INVALID,
    errors.SignatureInvalid: gp.TEE_ERROR_SIGNATURE_INVALID,
    errors.CiphertextInvalid: gp.TEE_ERROR_CIPHERTEXT_INVALID,
    errors.StorageNotAvailable: gp.TEE_ERROR_STORAGE_NOT_AVAILABLE,
    errors.StorageNoSpace: gp.TEE_ERROR_STORAGE_NO_SPACE,
    errors.CorruptObject: gp.TEE_ERROR_CORRUPT_OBJECT,
}


@pytest.mark.parametrize(("cls", "code"), CLASSES.items())
def test_code_and_class_belong_together(
    cls: type[errors.GenericError] | type[errors.Cancel], code: int
) -> None:
    plain = cls()
    assert (plain.code, plain.origin, plain.detail) == (code, None, "")
    full = cls("why", gp.TEE_ORIGIN_TEE)
    assert (full.code, full.origin, full.detail) == (code, gp.TEE_ORIGIN_TEE, "why")
    from_code = TeeError.from_code(code, gp.TEE_ORIGIN_TRUSTED_APP, "because")
    assert type(from_code) is cls
    assert (from_code.code, from_code.origin) == (code, gp.TEE_ORIGIN_TRUSTED_APP)
    assert from_code.detail == "because"


def test_no_class_was_forgotten() -> None:
    exported = {getattr(errors, name) for name in errors.__all__}
    assert exported == {TeeError, *CLASSES, TaPanic, TaImageError, UserError}
    for cls in exported:
        assert cls.__name__ in (errors.__doc__ or "")


def test_code_without_a_class() -> None:
    error = TeeError.from_code(gp.TEE_ERROR_TIME_NOT_SET)
    assert type(error) is TeeError
    assert (error.code, error.origin) == (gp.TEE_ERROR_TIME_NOT_SET, None)


def test_success_is_not_an_error() -> None:
    with pytest.raises(ValueError, match="TEE_SUCCESS"):
        TeeError.from_code(gp.TEE_SUCCESS)


def test_text() -> None:
    assert str(errors.Busy()) == "TEE_ERROR_BUSY"
    assert str(errors.BadParameters("num_params")) == "TEE_ERROR_BAD_PARAMETERS: num_params"
    assert str(TeeError(0x80001234, gp.TEE_ORIGIN_TRUSTED_APP, "from the TA")) == (
        "0x80001234 (origin TEE_ORIGIN_TRUSTED_APP): from the TA"
    )


@pytest.mark.parametrize(
    "error",
    [TeeError(0xFFFF3071, 3, "mac"), errors.ShortBuffer("17 bytes", 4), TaPanic(7, "x")],
)
def test_copies_are_equal(error: TeeError | TaPanic) -> None:
    twin = copy.copy(error)
    assert type(twin) is type(error)
    assert vars(twin) == vars(error)
    assert str(twin) == str(error)


def test_panic_image_and_user_error_are_not_results() -> None:
    assert not issubclass(TaPanic, TeeError)
    assert not issubclass(TaImageError, TeeError)
    assert not issubclass(UserError, TeeError)


def test_panic() -> None:
    panic = TaPanic(gp.TEE_ERROR_BAD_PARAMETERS)
    assert panic.code == gp.TEE_ERROR_BAD_PARAMETERS
    assert str(panic) == "panic TEE_ERROR_BAD_PARAMETERS"
    assert str(TaPanic(2, "stale pointer")) == "panic 0x00000002: stale pointer"


def test_image_error() -> None:
    refusal = TaImageError("the signature does not match")
    assert refusal.code == gp.TEE_ERROR_SECURITY
    assert str(refusal) == "the signature does not match"
    assert TaImageError("no ELF", gp.TEE_ERROR_BAD_FORMAT).code == gp.TEE_ERROR_BAD_FORMAT


def test_user_error() -> None:
    assert UserError("no such TEE").hint is None
    error = UserError("/dev/tee0 belongs to root", hint="add yourself to the group tee")
    assert str(error) == "/dev/tee0 belongs to root"
    assert error.hint == "add yourself to the group tee"
