# SPDX-License-Identifier: BSD-2-Clause
"""Cryptography of the TEE Internal Core API and of OP-TEE, for every kind of trusted service.

``objects`` and ``states`` are what OP-TEE has: objects with attributes, and operations. Below
them are primitives: pyca/cryptography where it has the algorithm, :mod:`gentee.crypto.own` where it
does not. What OP-TEE does is the law, down to the order of its checks.

Nothing here knows of processes, handles or memory of a TA. Bulk data is passed as memoryviews, and
is read and written where it is.
"""


def warm_up() -> None:
    """Import and touch what is loaded at the first use, before a process gives up reading files."""
    from gentee.crypto import (
        authenc,
        ciphers,
        digests,
        keygen,
        macs,
        states_asymmetric,  # noqa: F401
        states_derive,  # noqa: F401
    )

    keygen.warm_up()
    for algo in (*digests.HASHES, *digests.XOFS):
        digests.new_digest(algo)
    ciphers.warm_up()
    macs.warm_up()
    authenc.warm_up()
