# SPDX-License-Identifier: BSD-2-Clause
"""The table of algorithms: what there is, and what carries it out.

Each family has the rows of its algorithms beside the code that serves them. ``gentee abi
algorithms`` and ``docs/abi.md`` are this table for people.
"""

from collections.abc import Iterable
from typing import NamedTuple

from gentee.abi import gp_crypto as gp
from gentee.crypto.object_types import TYPES

PYCA = "pyca"  # pyca/cryptography
GENTEE = "gentee"  # gentee.crypto.own
BOTH = "pyca, gentee"  # some key sizes or some steps are gentee's; the note says which

CLASS_NAMES = {
    gp.TEE_OPERATION_CIPHER: "cipher",
    gp.TEE_OPERATION_MAC: "MAC",
    gp.TEE_OPERATION_AE: "authenticated encryption",
    gp.TEE_OPERATION_DIGEST: "digest",
    gp.TEE_OPERATION_ASYMMETRIC_CIPHER: "asymmetric encryption",
    gp.TEE_OPERATION_ASYMMETRIC_SIGNATURE: "signature",
    gp.TEE_OPERATION_KEY_DERIVATION: "key derivation",
}


class Row(NamedTuple):
    """One algorithm.

    :ivar keys: TEE_TYPE_* of the keys that it takes.
    :ivar implementation: PYCA, GENTEE or BOTH.
    :ivar note: a few words on what is special about it here, or nothing.
    :ivar sizes: of keys, in bits, as text, where they are not all that the type can have.
    """

    id: int
    keys: tuple[int, ...]
    implementation: str
    note: str = ""
    sizes: str = ""

    @property
    def name(self) -> str:
        """TEE_ALG_*"""
        return gp.algorithm_name(self.id)

    @property
    def class_name(self) -> str:
        """What operations it is for."""
        return CLASS_NAMES[gp.TEE_ALG_GET_CLASS(self.id)]

    @property
    def key_sizes(self) -> str:
        """Sizes of keys in bits, as text; nothing for an algorithm without keys."""
        return self.sizes or (type_sizes(self.keys[0]) if self.keys else "")


def type_sizes(obj_type: int) -> str:
    """The sizes in bits that objects of a type can have, as text: ``128, 192, 256``."""
    props = TYPES[obj_type]
    step, low, high = props.quanta, props.min_size, props.max_size
    sizes = range(low, high + 1, step)
    if len(sizes) <= 3:
        return ", ".join(map(str, sizes))
    return f"{low} to {high}" + (f" in steps of {step}" if step > 1 else "")


def table() -> tuple[Row, ...]:
    """All algorithms, by identifier."""
    rows = {row.id: row for family in _families() for row in family}
    return tuple(rows[algo] for algo in sorted(rows))


def _families() -> Iterable[tuple[Row, ...]]:
    """The rows of each family, which is imported for them: for its printing only."""
    from gentee.crypto import asymmetric, symmetric

    return symmetric.ROWS, asymmetric.ROWS
