# SPDX-License-Identifier: BSD-2-Clause
"""UUIDs as TAs have them: struct TEE_UUID, whose first three fields are numbers of the machine."""

from struct import Struct

from gentee.abi.optee_ta import TEE_UUID

UUID_SIZE = TEE_UUID.size

_OCTETS = Struct(">IHH8s")


def to_struct(octets: bytes) -> bytes:
    """The 16 bytes of a UUID in the order of its text, as a struct TEE_UUID."""
    return TEE_UUID.pack(*_OCTETS.unpack(octets))


def from_struct(uuid: bytes) -> bytes:
    """The opposite: tee_uuid_to_octets()."""
    return _OCTETS.pack(*TEE_UUID.unpack(uuid))
