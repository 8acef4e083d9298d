# SPDX-License-Identifier: BSD-2-Clause
"""The hardware unique key, and what is derived from it (OP-TEE core/kernel/huk_subkey.c).

A machine without hardware for it has OP-TEE's own for development: zeros. So keys here are those
that OP-TEE derives on a board of which nobody has written the fuses, which is no secret at all.
"""

import hashlib
import hmac

from gentee.errors import BadParameters, UserError

HW_UNIQUE_KEY_LENGTH = 16
DEVELOPMENT_HUK = bytes(HW_UNIQUE_KEY_LENGTH)

# enum huk_subkey_usage
HUK_SUBKEY_RPMB = 0
HUK_SUBKEY_SSK = 1
HUK_SUBKEY_DIE_ID = 2
HUK_SUBKEY_UNIQUE_TA = 3
HUK_SUBKEY_TA_ENC = 4
HUK_SUBKEY_SE050 = 5

HUK_SUBKEY_MAX_LEN = 32

_MAX_FILE = 1024  # bytes of a file with a key


def huk_subkey_derive(
    usage: int, const_data: bytes, subkey_len: int, huk: bytes = DEVELOPMENT_HUK
) -> bytes:
    """A key of ``subkey_len`` bytes for ``usage``, HUK_SUBKEY_*; the same one for the same input.

    HMAC-SHA256 with the hardware unique key, of the usage as 32 bits and ``const_data``, cut.

    :raises BadParameters: more than HUK_SUBKEY_MAX_LEN bytes.
    """
    if not 0 <= subkey_len <= HUK_SUBKEY_MAX_LEN:
        raise BadParameters(f"a key of {subkey_len} bytes")
    message = usage.to_bytes(4, "little") + const_data
    return hmac.new(huk, message, hashlib.sha256).digest()[:subkey_len]


def load_huk(path: str) -> bytes:
    """The key in a file: 16 bytes, or 32 hexadecimal digits; UserError if there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}", "it should have a hardware unique key"
        ) from error
    if len(data) == HW_UNIQUE_KEY_LENGTH:
        return data
    text = data.strip()
    try:
        if len(text) == 2 * HW_UNIQUE_KEY_LENGTH:
            return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    raise UserError(
        f"{path}: no hardware unique key", "it has 32 hexadecimal digits, or 16 bytes, and no more"
    )
