# SPDX-License-Identifier: BSD-2-Clause
"""gentee.abi.gp: the numbers that programs in the field were compiled with."""

import pytest

from gentee.abi import gp

RESULTS = {
    0x00000000: "TEE_SUCCESS",
    0xF0100001: "TEE_ERROR_CORRUPT_OBJECT",
    0xF0100002: "TEE_ERROR_CORRUPT_OBJECT_2",
    0xF0100003: "TEE_ERROR_STORAGE_NOT_AVAILABLE",
    0xF0100004: "TEE_ERROR_STORAGE_NOT_AVAILABLE_2",
    0xF0100005: "TEE_ERROR_UNSUPPORTED_VERSION",
    0xF0100006: "TEE_ERROR_CIPHERTEXT_INVALID",
    0xF1007001: "TEE_ISOCKET_ERROR_PROTOCOL",
    0xF1007002: "TEE_ISOCKET_ERROR_REMOTE_CLOSED",
    0xF1007003: "TEE_ISOCKET_ERROR_TIMEOUT",
    0xF1007004: "TEE_ISOCKET_ERROR_OUT_OF_RESOURCES",
    0xF1007005: "TEE_ISOCKET_ERROR_LARGE_BUFFER",
    0xF1007006: "TEE_ISOCKET_WARNING_PROTOCOL",
    0xF1007007: "TEE_ISOCKET_ERROR_HOSTNAME",
    0xFFFF0000: "TEE_ERROR_GENERIC",
    0xFFFF0001: "TEE_ERROR_ACCESS_DENIED",
    0xFFFF0002: "TEE_ERROR_CANCEL",
    0xFFFF0003: "TEE_ERROR_ACCESS_CONFLICT",
    0xFFFF0004: "TEE_ERROR_EXCESS_DATA",
    0xFFFF0005: "TEE_ERROR_BAD_FORMAT",
    0xFFFF0006: "TEE_ERROR_BAD_PARAMETERS",
    0xFFFF0007: "TEE_ERROR_BAD_STATE",
    0xFFFF0008: "TEE_ERROR_ITEM_NOT_FOUND",
    0xFFFF0009: "TEE_ERROR_NOT_IMPLEMENTED",
    0xFFFF000A: "TEE_ERROR_NOT_SUPPORTED",
    0xFFFF000B: "TEE_ERROR_NO_DATA",
    0xFFFF000C: "TEE_ERROR_OUT_OF_MEMORY",
    0xFFFF000D: "TEE_ERROR_BUSY",
    0xFFFF000E: "TEE_ERROR_COMMUNICATION",
    0xFFFF000F: "TEE_ERROR_SECURITY",
    0xFFFF0010: "TEE_ERROR_SHORT_BUFFER",
    0xFFFF0011: "TEE_ERROR_EXTERNAL_CANCEL",
    0xFFFF3001: "TEE_ERROR_TIMEOUT",
    0xFFFF300F: "TEE_ERROR_OVERFLOW",
    0xFFFF3024: "TEE_ERROR_TARGET_DEAD",
    0xFFFF3041: "TEE_ERROR_STORAGE_NO_SPACE",
    0xFFFF3071: "TEE_ERROR_MAC_INVALID",
    0xFFFF3072: "TEE_ERROR_SIGNATURE_INVALID",
    0xFFFF5000: "TEE_ERROR_TIME_NOT_SET",
    0xFFFF5001: "TEE_ERROR_TIME_NEEDS_RESET",
}

ORIGINS = {
    1: "TEE_ORIGIN_API",
    2: "TEE_ORIGIN_COMMS",
    3: "TEE_ORIGIN_TEE",
    4: "TEE_ORIGIN_TRUSTED_APP",
    0xF0000001: "TEE_ORIGIN_CLIENT_APP",
}

LOGINS = {
    0: "TEE_LOGIN_PUBLIC",
    1: "TEE_LOGIN_USER",
    2: "TEE_LOGIN_GROUP",
    4: "TEE_LOGIN_APPLICATION",
    5: "TEE_LOGIN_APPLICATION_USER",
    6: "TEE_LOGIN_APPLICATION_GROUP",
    0x80000000: "TEE_LOGIN_REE_KERNEL",
    0xF0000000: "TEE_LOGIN_TRUSTED_APP",
}


def constants(*prefixes: str) -> dict[str, int]:
    return {name: value for name, value in vars(gp).items() if name.startswith(prefixes)}


@pytest.mark.parametrize(("code", "name"), RESULTS.items())
def test_result(code: int, name: str) -> None:
    assert getattr(gp, name) == code
    assert gp.result_name(code) == name


@pytest.mark.parametrize(("code", "name"), ORIGINS.items())
def test_origin(code: int, name: str) -> None:
    assert getattr(gp, name) == code
    assert gp.origin_name(code) == name


@pytest.mark.parametrize(("code", "name"), LOGINS.items())
def test_login(code: int, name: str) -> None:
    assert getattr(gp, name) == code
    assert gp.login_name(code) == name


def test_tables_here_are_complete() -> None:
    results = constants("TEE_SUCCESS", "TEE_ERROR_", "TEE_ISOCKET_")
    assert results == {name: code for code, name in RESULTS.items()}
    assert constants("TEE_ORIGIN_") == {name: code for code, name in ORIGINS.items()}
    assert constants("TEE_LOGIN_") == {name: code for code, name in LOGINS.items()}


def test_client_names_are_the_same_numbers() -> None:
    for name, value in constants("TEEC_SUCCESS", "TEEC_ERROR_", "TEEC_ORIGIN_").items():
        assert vars(gp)[name.replace("TEEC_", "TEE_")] == value
    assert gp.TEEC_LOGIN_USER_APPLICATION == 5
    assert gp.TEEC_LOGIN_GROUP_APPLICATION == 6


def test_names_of_unknown_codes() -> None:
    assert gp.result_name(0x8000ABCD) == "0x8000abcd"
    assert gp.result_name(7) == "0x00000007"
    assert gp.origin_name(0) == "0x00000000"
    assert gp.login_name(3) == "0x00000003"


def test_result_name_takes_a_signed_code() -> None:
    assert gp.result_name(0xFFFF0006 - 2**32) == "TEE_ERROR_BAD_PARAMETERS"


def test_param_types() -> None:
    types = gp.TEE_PARAM_TYPES(
        gp.TEE_PARAM_TYPE_VALUE_INOUT,
        gp.TEE_PARAM_TYPE_MEMREF_INPUT,
        gp.TEE_PARAM_TYPE_NONE,
        gp.TEE_PARAM_TYPE_MEMREF_INOUT,
    )
    assert types == 0x7053
    assert [gp.TEE_PARAM_TYPE_GET(types, i) for i in range(4)] == [3, 5, 0, 7]
    assert gp.TEE_PARAM_TYPE_SET(gp.TEE_PARAM_TYPE_MEMREF_OUTPUT, 2) == 0x600
    assert gp.TEEC_PARAM_TYPES(gp.TEEC_MEMREF_WHOLE, gp.TEEC_NONE, 0, 0) == 0xC


@pytest.mark.parametrize("kind", ["VALUE", "MEMREF"])
@pytest.mark.parametrize("direction", ["INPUT", "OUTPUT", "INOUT"])
def test_client_and_ta_param_types_agree(kind: str, direction: str) -> None:
    client = "MEMREF_TEMP" if kind == "MEMREF" else "VALUE"
    ta_type = getattr(gp, f"TEE_PARAM_TYPE_{kind}_{direction}")
    assert getattr(gp, f"TEEC_{client}_{direction}") == ta_type
    # A reference to registered memory is the same type plus 8.
    if kind == "MEMREF":
        assert getattr(gp, f"TEEC_MEMREF_PARTIAL_{direction}") == ta_type | 8
