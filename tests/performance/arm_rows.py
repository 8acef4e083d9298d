# SPDX-License-Identifier: BSD-2-Clause
"""Benchmarks of OP-TEE's TAs: built here, signed with a key of the run, of both architectures."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

from tests import ta_build
from tests.performance.measuring import HERE, Client, Measuring, Row
from tests.performance.service_rows import private_memory, services_of

ARCHES = ta_build.ARCHES
NOTHING, CALLS, LOOP = (number << 28 for number in range(3))  # commands of tests/tas/measured.c
_ROUNDS = 1_000_000  # of the loop
_CALLS = 2_000
_MEMORY_BUDGET = 10.0  # MiB of an instance
_INSTANCES = 50
_COPIES = 400  # TAs that differ by their UUID alone: each is opened for the first time once


# Name in bare_crypto.py, number in tests/tas/measured_crypto.c.
_BULK = (("sha256", 1), ("cbc", 2), ("ctr", 3), ("gcm", 4))
# KiB, how often, budget.
_SIZES = ((1, 2000, 0.2), (64, 200, 0.8), (256, 100, 0.8), (1024, 30, 0.8))
# Name, number, how often, seconds. RSA keys take very different times.
_KEYED = (
    ("rsa", 5, 100, 3),
    ("ecdsa", 6, 500, 3),
    ("p256_key", 7, 500, 3),
    ("p256_key_and_numbers", 7, 500, 3),
    ("rsa_key_and_numbers", 8, 10, 16),
)
_CRYPTO = (
    *((name, n, kib, often, 3, budget) for kib, often, budget in _SIZES for name, n in _BULK),
    *((name, n, 0, often, seconds, 0.9) for name, n, often, seconds in _KEYED),
)


class Bare:
    """tests/performance/bare_*.py: what a TA does, without a TEE."""

    def __init__(self, name: str, *arguments: str) -> None:
        argv = [sys.executable, str(HERE / f"bare_{name}.py"), *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def ask(self, line: str) -> float:
        """Nanoseconds of one round."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        return float(self._process.stdout.readline() or "nan")

    def close(self) -> None:
        self._process.communicate(timeout=10)


def uuid_of(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"measured {number}"))


class ArmRows(Measuring):
    """Each TA is about 100 KiB, as those with OP-TEE's libraries are."""

    def arm_open(self) -> None:
        """Opens of TAs: for the first time, and of one that was opened before."""
        for arch in ARCHES:
            with self._tas(arch) as gentee, Client([], self._client) as plain:
                # The engine's own start is not a TA's: one is opened before.
                gentee.ask(f"session {uuid_of(0)} 1")
                cold, execs = self._alternate(
                    partial(self._open_another, gentee, count(1)),
                    partial(plain.ask, "exec 5"),
                    seconds=6,
                )
                warm, again = self._alternate(
                    partial(gentee.ask, f"session {uuid_of(0)} 20"),
                    partial(plain.ask, "exec 20"),
                    seconds=6,
                )
            against = "fork + exec of /bin/true"
            for what, figures, references, budget in (
                ("the first time", cold, execs, 12),
                ("opened before", warm, again, 4),
            ):
                self._add(
                    "arm_open",
                    f"open + close, {arch}, {what}",
                    "idle",
                    figures,
                    references,
                    against,
                    unit="ms",
                    scale=1e-6,
                    budget=budget,
                )

    @staticmethod
    def _open_another(gentee: Client, numbers: Iterator[int]) -> float:
        return gentee.ask(f"session {uuid_of(next(numbers) % _COPIES)} 1")

    def arm_calls(self) -> None:
        """Invokes of TAs, and their system calls."""
        for arch in ARCHES:
            with self._tas(arch, f"sessions {uuid_of(0)} 1") as gentee, self._with_floor() as floor:
                nothing, many, lowest = self._alternate(
                    partial(gentee.ask, f"invoke {NOTHING} 1000 1"),
                    partial(gentee.ask, f"invoke {CALLS + _CALLS} 5 1"),
                    partial(floor.ask, "version 5000"),
                    seconds=8,
                )
            what = f"invoke, {arch}, no system call but return"
            self._add("arm_calls", what, "idle", nothing, lowest, "C floor", budget=12)
            what = f"a system call, {arch}, 8 registers and 64 bytes"
            each = [(a - b) / _CALLS for a, b in zip(many, nothing, strict=True)]
            self._add("arm_calls", what, "idle", each, lowest, "C floor", budget=3)

    def arm_loop(self) -> None:
        """Plain computation in a TA and in Unicorn alone."""
        for arch in ARCHES:
            elf = ta_build.build_library(self._folder, "loop", arch, "loop")
            bare = Bare("unicorn", arch, str(elf))
            try:
                with self._tas(arch, f"sessions {uuid_of(0)} 1") as gentee:
                    in_ta, alone = self._alternate(
                        partial(gentee.ask, f"invoke {LOOP + _ROUNDS} 1 1"),
                        partial(bare.ask, str(_ROUNDS)),
                        seconds=6,
                    )
            finally:
                bare.close()
            # As speeds: rounds in a microsecond.
            speeds = [_ROUNDS / each * 1e3 for each in in_ta]
            references = [1 / each * 1e3 for each in alone]
            self._add(
                "arm_loop",
                f"plain computation, {arch}",
                "idle",
                speeds,
                references,
                "bare Unicorn",
                unit="rounds/us",
                budget=0.9,
                at_least=True,
            )

    def arm_memory(self) -> None:
        """Private memory of idle instances."""
        for arch in ARCHES:
            with self._tas(arch, f"session {uuid_of(0)} 3") as gentee:
                gentee.ask(f"sessions {uuid_of(0)} {_INSTANCES}")
                figures = sorted(private_memory(pid) for pid in services_of(gentee.pid))
            most, kind = figures[-2]  # but for the template
            what = f"memory of an instance, {arch} ({kind}), the most of {_INSTANCES}"
            ratio, budget = most / _MEMORY_BUDGET, f"{_MEMORY_BUDGET:g} MiB"
            row = Row("arm_memory", what, "idle", most, "MiB", _MEMORY_BUDGET, budget, ratio, 1)
            self._row(row)

    def arm_parallel(self) -> None:
        """Two clients of different TAs against one."""
        for arch in ARCHES:
            with self._tas(arch, workers=2) as gentee:
                for worker in range(2):
                    gentee.ask(f"session {uuid_of(worker)} 3", worker)
                    gentee.ask(f"sessions {uuid_of(worker)} 1", worker)
                long = LOOP + 130_000  # 200 us
                # One client's open is at work on both CPUs already: the next process is made ahead.
                for what, line, budget in (
                    ("calls of 200 us", f"invoke_rate {long} 200", 1.5),
                    ("opens", f"session_rate {uuid_of(0)} 200", None),
                ):
                    two, one = self._alternate(
                        partial(self._both, gentee, line),
                        partial(gentee.ask, line),
                        seconds=6,
                    )
                    self._add(
                        "arm_parallel",
                        f"two clients of different TAs, {arch}, {what}",
                        "idle",
                        two,
                        one,
                        "one client",
                        unit="k/s",
                        budget=budget,
                        at_least=True,
                    )

    def arm_crypto(self) -> None:
        """Cryptography in a TA and in pyca/cryptography alone."""
        bare = Bare("crypto")
        folder = self._folder / "tas-crypto"
        folder.mkdir()
        self._make_tas(folder, "measured_crypto", "aarch64", 1)
        try:
            with self._tas_of(folder, f"sessions {uuid_of(0)} 1") as gentee:
                for name, number, kib, count_, seconds, budget in _CRYPTO:
                    cmd = number << 24 | (kib << 10).bit_length() << 16 | count_
                    in_ta, alone = self._alternate(
                        partial(gentee.ask, f"invoke {cmd} 1 1"),
                        partial(bare.ask, f"{name} {kib} {count_}"),
                        seconds=seconds,
                    )
                    # As speeds: a thousand in a second.
                    self._add(
                        "arm_crypto",
                        f"{name}{f' of {kib} KiB' if kib else ''} in a TA",
                        "idle",
                        [count_ / each * 1e9 for each in in_ta],
                        [1e9 / each for each in alone],
                        "pyca/cryptography alone",
                        unit="k/s",
                        budget=budget,
                        at_least=True,
                    )
        finally:
            bare.close()

    @staticmethod
    def _both(gentee: Client, line: str) -> float:
        """The sum of what both clients do; the second one with its own TA."""
        return sum(gentee.ask_each([line, line.replace(uuid_of(0), uuid_of(1))]))

    # TAs.

    def _tas(self, arch: str, *preparations: str, workers: int = 1) -> Client:
        """A TEE whose TAs are copies of one."""
        folder = self._folder / f"tas-{arch}"
        if not folder.exists():
            folder.mkdir()
            self._make_tas(folder, "measured", arch, _COPIES)
        return self._tas_of(folder, *preparations, workers=workers)

    def _tas_of(self, folder: Path, *preparations: str, workers: int = 1) -> Client:
        return self._gentee(
            *preparations,
            workers=workers,
            folders=[str(folder)],
            keys=[str(folder / "key.pub.pem")],
            strict=True,
        )

    def _make_tas(self, folder: Path, source: str, arch: str, copies: int) -> None:
        from gentee.secure import images
        from tests import signing

        Path(signing.key_file(folder)).rename(folder / "key.pub.pem")
        elf = ta_build.build_ta(self._folder, source, arch).read_bytes()
        for number in range(copies):
            name = uuid_of(number)
            image = images.sign(elf, signing.key(), uuid.UUID(name).bytes, 0)
            (folder / f"{name}.ta").write_bytes(image)
