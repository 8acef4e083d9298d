# SPDX-License-Identifier: BSD-2-Clause
"""Rows of the table of algorithms: digests, MACs, ciphers and authenticated encryption."""

from collections.abc import Iterable

from gentee.abi import gp_crypto as gp
from gentee.crypto.algorithms import BOTH, GENTEE, PYCA, Row
from gentee.crypto.authenc import AUTHENCS
from gentee.crypto.ciphers import CIPHERS
from gentee.crypto.digests import HASHES, XOFS
from gentee.crypto.macs import CBC_MACS, MACS

_OWN_CBC = "CBC is pyca's"
_OWN_ECB = "ECB is pyca's"
_NOTES = {
    gp.TEE_ALG_AES_CTS: (GENTEE, _OWN_CBC),
    gp.TEE_ALG_AES_XTS: (BOTH, f"gentee's with 192 bits, and with two equal keys; {_OWN_ECB}"),
    gp.TEE_ALG_SM4_XTS: (GENTEE, _OWN_ECB),
    gp.TEE_ALG_DES_ECB_NOPAD: (PYCA, "triple DES with three equal keys"),
    gp.TEE_ALG_DES_CBC_NOPAD: (PYCA, "triple DES with three equal keys"),
    gp.TEE_ALG_AES_CCM: (GENTEE, "in steps; CBC and CTR are pyca's"),
    gp.TEE_ALG_AES_GCM: (BOTH, "gentee's: copies, nonces below 8 or above 128 bytes"),
    **dict.fromkeys(CBC_MACS, (GENTEE, _OWN_CBC)),
}


def _rows() -> Iterable[Row]:
    for algo in (*HASHES, *XOFS, *MACS, *CIPHERS, *AUTHENCS):
        is_digest = gp.TEE_ALG_GET_CLASS(algo) == gp.TEE_OPERATION_DIGEST
        keys = () if is_digest else (gp.TEE_ALG_GET_KEY_TYPE(algo, False),)
        yield Row(algo, keys, *_NOTES.get(algo, (PYCA, "")))


ROWS = tuple(_rows())
