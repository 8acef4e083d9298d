# SPDX-License-Identifier: BSD-2-Clause
"""Operations of Arm TAs in their processes, where nothing can be loaded any more.

What comes out is compared with the same calls in this process, which tests/vectors checks.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi import gp_crypto as gp
from gentee.crypto.authenc import AUTHENCS
from gentee.crypto.ciphers import CIPHERS
from gentee.crypto.digests import HASHES, XOFS
from gentee.crypto.macs import MACS
from tests import arm_tas
from tests.arm_tas import uuid_of
from tests.calling_ta import CALLS, CallingTa
from tests.helpers import ServiceHost
from tests.svc_crypto import IN, OUT, CryptoCalls, CryptoTa
from tests.svc_ta import DATA
from tests.ta_build import ARCHES
from tests.ta_clients import ArmTee

# Where addresses of tests/svc_crypto.py are in the TA's memory: address, bytes, offset
PLACES = ((DATA, 0x1000, 0), (IN, 0x7000, 0x1000), (OUT, 0x7000, 0x8000))

KEY_SIZES = {gp.TEE_MAIN_ALGO_DES: 8, gp.TEE_MAIN_ALGO_DES3: 24, gp.TEE_MAIN_ALGO_SM4: 16}
MESSAGE = bytes(range(256)) * 20
IV = bytes(range(16))


class ProcessTa(CryptoCalls):
    """A TA in a process."""

    def __init__(self, ta: CallingTa) -> None:
        self._ta = ta

    def call(self, number: int, *args: int) -> int:
        return self._ta.call(number, *map(self.place, args))

    def read(self, address: int, size: int) -> bytes:
        return self._ta.read(self.place(address) - self._ta.address, size)

    def write(self, address: int, data: bytes) -> None:
        self._ta.write(self.place(address) - self._ta.address, data)

    def place(self, address: int) -> int:
        for start, size, offset in PLACES:
            if start <= address < start + size:
                return self._ta.address + offset + address - start
        return address


@pytest.fixture(scope="module", params=ARCHES)
def remote(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessTa]:
    folder: Path = tmp_path_factory.mktemp("tas")
    arm_tas.install(folder, CALLS, "calls", request.param)
    host = ServiceHost()
    tee = ArmTee(host, folder, request.param)
    yield ProcessTa(CallingTa(tee.open(uuid_of(CALLS))))
    tee.close()
    assert not host.bugs
    host.close()


@pytest.fixture(scope="module")
def local() -> Iterator[CryptoTa]:
    tested = CryptoTa()
    yield tested
    tested.end()


def results(ta: CryptoCalls, algo: int, mode: int) -> list[bytes]:
    """Data in two steps, the second one of a copy."""
    algo_class = gp.TEE_ALG_GET_CLASS(algo)
    if algo_class == gp.TEE_OPERATION_DIGEST:
        states = [ta.state(algo, mode) for _ in range(2)]
    else:
        key = bytes(range(1, KEY_SIZES.get(gp.TEE_ALG_GET_MAIN_ALG(algo), 32) + 1))
        two = gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_XTS
        two = two and algo_class == gp.TEE_OPERATION_CIPHER
        states = [ta.keyed(algo, mode, key, key if two else None) for _ in range(2)]
    first, second = MESSAGE[:1600], MESSAGE[1600:]
    if algo_class == gp.TEE_OPERATION_CIPHER:
        is_ecb = gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_ECB_NOPAD
        is_des = gp.TEE_ALG_GET_MAIN_ALG(algo) in (gp.TEE_MAIN_ALGO_DES, gp.TEE_MAIN_ALGO_DES3)
        ta.cipher_init(states[0], b"" if is_ecb else IV[: 8 if is_des else 16])
        made = [ta.cipher_update(states[0], first)]
        ta.copy(states[1], states[0])
        made.append(ta.cipher_update(states[1], second, True))
    elif algo_class == gp.TEE_OPERATION_AE:
        ta.authenc_init(states[0], IV[:12], 16, 100, len(MESSAGE))
        ta.authenc_aad(states[0], MESSAGE[:100])
        made = [ta.authenc_update(states[0], first[:1599])]
        ta.copy(states[1], states[0])
        made += [ta.authenc_update(states[1], first[1599:])]
        made += ta.authenc_enc_final(states[1], second)
    else:
        ta.hash_init(states[0])
        ta.hash_update(states[0], first)
        ta.copy(states[1], states[0])
        made = [ta.hash_final(states[1], second)]
    ta.free(*states)
    return made


@pytest.mark.parametrize(
    "algo", [*HASHES, *XOFS, *MACS, *CIPHERS, *AUTHENCS], ids=gp.algorithm_name
)
def test_every_algorithm(remote: ProcessTa, local: CryptoTa, algo: int) -> None:
    modes = [gp.TEE_MODE_ENCRYPT]
    if gp.TEE_ALG_GET_CLASS(algo) == gp.TEE_OPERATION_CIPHER:
        modes.append(gp.TEE_MODE_DECRYPT)
    for mode in modes:
        assert results(remote, algo, mode) == results(local, algo, mode)


@pytest.mark.parametrize("algo", AUTHENCS, ids=gp.algorithm_name)
def test_a_tag_is_checked(remote: ProcessTa, algo: int) -> None:
    key = bytes(16)
    state = remote.keyed(algo, gp.TEE_MODE_ENCRYPT, key)
    remote.authenc_init(state, IV[:12], 16, 0, len(MESSAGE))
    cipher, tag = remote.authenc_enc_final(state, MESSAGE)
    other = remote.keyed(algo, gp.TEE_MODE_DECRYPT, key)
    remote.authenc_init(other, IV[:12], 16, 0, len(MESSAGE))
    assert remote.authenc_dec_final(other, cipher, tag) == MESSAGE
    remote.free(state, other)
