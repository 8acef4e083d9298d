# SPDX-License-Identifier: BSD-2-Clause
"""Somebody has got out of the engine: what the process of an OP-TEE TA can do then, and cannot.

The attacks are in tests/security/escaped_parent.py; they run in processes that are made as those of
TAs are. Each costs its own session at most.
"""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi import gp
from gentee.client import Session, Value
from gentee.linux import arch as linux_arch
from gentee.secure import binaries
from gentee.secure import tee as secure_tee
from gentee.secure.service import parse_uuid
from gentee.ta import confine
from tests import arm_tas
from tests.functional.test_services import OTHER, Call
from tests.helpers import ServiceHost, wait_until
from tests.security import escaped_parent
from tests.security.arm_captive import HONEST, HOSTILE, ArmCaptive, service_host
from tests.security.escaped_parent import LINES, number_of
from tests.security.raw import RAW, code_of

__all__ = ["service_host"]

CODES = {value for name, value in vars(gp).items() if name.startswith("TEE_ERROR_") or value == 0}
MODULE = "tests.security.escaped_parent"


class Escapes(ArmCaptive):
    """A TEE all of whose TAs are in processes that can be taken over."""

    def run(self, attack: str, a: int = 0, b: int = 0, uuid: str = OTHER) -> int:
        """Run an attack in a fresh session; what it returned."""
        return self.run_in(self.session(), attack, a, b, uuid)

    def session(self) -> Session:
        return self.tee.open(arm_tas.uuid_of(HOSTILE))

    def run_in(
        self, session: Session, attack: str, a: int = 0, b: int = 0, uuid: str = OTHER
    ) -> int:
        value, *words = self.params(a, b, uuid)
        session.invoke(number_of(attack), value, *words)
        return value.a

    @staticmethod
    def params(a: int = 0, b: int = 0, uuid: str = OTHER) -> tuple[Value, Value, Value]:
        octets = parse_uuid(uuid)
        first, second, third, fourth = (
            int.from_bytes(octets[at : at + 4], "big") for at in range(0, 16, 4)
        )
        return Value(a, b), Value(first, second), Value(third, fourth)


@pytest.fixture(scope="module")
def escapes(
    service_host: ServiceHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Escapes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secure_tee, "ARM_MODULE", MODULE)
        folder: Path = tmp_path_factory.mktemp("tas")
        captive = Escapes(service_host, folder, "aarch64", cpu_limit=2)
        captive.tee.put(_PYTHON, uuid=OTHER, name="python")
        yield captive
        captive.tee.close()
    assert not service_host.bugs


_PYTHON = (
    """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        words()[ch.Q_UUID], words()[ch.Q_UUID + 1] = params[1].a, params[1].b
        params[0].a = ask(ch.RQ_OPEN_BIN)
"""
    + RAW
)


def _number(row: confine.Row) -> int | None:
    native = linux_arch.ARCHES[0]
    return row.x86_64 if native == linux_arch.AUDIT_ARCH_X86_64 else row.aarch64


# What would end the caller, take its channel away, or wait for ever.
_NOT_TRIED = ("exit_group", "close", "ioctl", "restart_syscall", "futex")


def test_every_system_call(escapes: Escapes) -> None:
    """What is not in its table is refused, also by the numbers of x32."""
    skipped = {_number(row) for row in confine.TA_TABLE if row.name in _NOT_TRIED}
    permitted = {_number(row) for row in confine.TA_TABLE if row.locked}
    assert skipped <= escaped_parent.NOT_TRIED
    x32 = linux_arch.X32_SYSCALL_BIT
    before = len(escapes.lines)
    for first, end in ((0, 600), (x32, x32 + 600)):
        escapes.run("every_call_of_many", first, end)
    through = set()
    for line in escapes.lines[before:]:
        through |= set(ast.literal_eval(line))
    assert through <= permitted
    escapes.others_go_on()


def test_its_table_is_narrower_than_that_of_services() -> None:
    of_services = {row.name: row for row in confine.TABLE}
    for row in confine.TA_TABLE:
        assert row.reason
        assert _number(row) == _number(of_services[row.name])
    names = {row.name for row in confine.TA_TABLE if row.locked}
    assert len(names) == 15
    assert not names & {"clone", "mprotect", "mremap", "rt_sigaction", "dup", "openat", "prctl"}


def test_what_it_tries(escapes: Escapes) -> None:
    escapes.run("reaches")
    assert escapes.lines[-1] == "[]"
    escapes.others_go_on()


def test_its_process(escapes: Escapes) -> None:
    """No privileges, no capability, not dumpable; also where it was forked from a template."""
    (tee,) = escapes.tee.driver.tees
    before = tee.instances()
    sessions = [escapes.session() for _ in range(3)]
    instances = [instance for instance in tee.instances() if instance not in before]
    assert len(instances) == 3
    for instance in instances:
        wait_until(lambda: instance.pid)  # noqa: B023 (now)
        text = Path(f"/proc/{instance.pid}/status").read_text()
        status = dict(line.split(":\t", 1) for line in text.splitlines())
        assert status["NoNewPrivs"] == "1"
        assert int(status["Seccomp_filters"]) >= 3
        for kind in ("Inh", "Prm", "Eff", "Amb"):
            assert int(status[f"Cap{kind}"], 16) == 0
        assert Path(f"/proc/{instance.pid}/mem").stat().st_uid == 0
        if os.getuid():
            with pytest.raises(PermissionError):
                os.open(f"/proc/{instance.pid}/mem", os.O_RDONLY)
    for session in sessions:
        session.close()


@pytest.mark.parametrize("seed", range(4))
def test_forged_results(escapes: Escapes, seed: int) -> None:
    """Whatever stands in the mailbox: of a result come 32 bits, of its own command."""
    session = escapes.session()
    for _ in range(30):
        value, *words = escapes.params(100, seed)
        code = code_of(session, number_of("any_mailbox"), value, *words)
        assert 0 <= code < 1 << 32
        assert max(value.a, value.b) < 1 << 32
    escapes.others_go_on()


@pytest.mark.parametrize("seed", range(4))
def test_requests_with_any_words(escapes: Escapes, seed: int) -> None:
    session = escapes.session()
    for uuid in (OTHER, arm_tas.uuid_of(HONEST), arm_tas.uuid_of(HOSTILE)):
        value, *words = escapes.params(120, seed, uuid)
        assert code_of(session, number_of("any_request"), value, *words) == 0
        escapes.others_go_on()


@pytest.mark.parametrize("seed", range(3))
def test_pseudo_tas_with_any_words(escapes: Escapes, seed: int) -> None:
    """They run in gentee's own process: nothing that a TA says makes one of them fail."""
    before = len(escapes.lines)
    assert escapes.run("pseudo_tas", 400, seed) > 2
    (line,) = [line for line in escapes.lines[before:] if line.startswith("[(")]
    results = ast.literal_eval(line)
    assert (gp.TEE_SUCCESS, gp.TEE_ORIGIN_TRUSTED_APP) in results
    assert {code for code, _origin in results} <= CODES
    escapes.others_go_on()


# Requests for binaries


def test_binaries_that_it_may_have(escapes: Escapes) -> None:
    """Any ELF file of the TEE, as OP-TEE's ldelf can open any TA's; read-only. Nothing else."""
    before = len(escapes.lines)
    for number in (HOSTILE, HONEST):
        assert escapes.run("open_bin", uuid=arm_tas.uuid_of(number)) == 0
    assert escapes.lines[before:] == 2 * ["b'\\x7fELF'", "and it cannot be written"]
    for uuid in (OTHER, 32 * "7"):
        uuid = uuid if "-" in uuid else "77777777-7777-7777-7777-777777777777"
        assert escapes.run("open_bin", uuid=uuid) == gp.TEE_ERROR_ITEM_NOT_FOUND
    escapes.others_go_on()


def test_binaries_are_for_tas(escapes: Escapes) -> None:
    """A Python service cannot have them, whatever it has taken over."""
    value = Value()
    escapes.tee.open(OTHER).invoke(0, value, Value(1, 2))
    assert value.a == gp.TEE_ERROR_NOT_SUPPORTED
    escapes.others_go_on()


def test_a_hoard_of_binaries(escapes: Escapes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of them are nobody's own memory: there are only so many."""
    monkeypatch.setattr(binaries, "MAX_BYTES", 1 << 20)
    got = escapes.run("hoard_binaries", 1000, uuid=arm_tas.uuid_of(HONEST))
    assert 900 < got <= 1024
    escapes.others_go_on()


@pytest.mark.parametrize("attack", ["flood_of_binaries", "flood_of_reports"])
def test_floods(escapes: Escapes, attack: str) -> None:
    call = Call(escapes.session(), number_of(attack), *escapes.params())
    for _ in range(4):
        escapes.others_go_on()

    def ended() -> bool:
        call.operation.cancel()
        return call.is_done

    wait_until(ended)
    escapes.others_go_on()


# The log


@pytest.mark.parametrize("dies", [0, 1])
@pytest.mark.parametrize("number", range(len(LINES)))
def test_lines(escapes: Escapes, number: int, dies: int) -> None:
    """Of megabytes, without an end, with what is no JSON, or too deep: lines of so many bytes."""
    before = len(escapes.lines)
    session = escapes.session()
    value, *words = escapes.params(number, dies)
    code = code_of(session, number_of("log"), value, *words)
    assert code == (gp.TEE_ERROR_TARGET_DEAD if dies else gp.TEE_SUCCESS)
    escapes.others_go_on()
    session.close()
    wait_until(lambda: len(escapes.lines) > before)
    assert all(len(line) <= 2048 for line in escapes.lines[before:])


# Its place on the channel


@pytest.mark.parametrize("attack", ["destroyed", "requests_at_rest", "wakes_by_itself"])
def test_calls_that_are_not_its_turn(
    escapes: Escapes, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    """It asks when it was to end or to rest: it is ended."""
    (tee,) = escapes.tee.driver.tees
    monkeypatch.setattr(tee._parking, "_most", 0)
    before = escapes.instances()
    session = escapes.session()
    assert code_of(session, number_of(attack), *escapes.params()) == gp.TEE_SUCCESS
    if attack == "destroyed":
        session.close()
    else:
        escapes.honest()
    wait_until(lambda: escapes.instances() <= before)
    escapes.others_go_on()


def test_it_cannot_be_another_one(escapes: Escapes) -> None:
    assert escapes.run("another_token") == 0
    escapes.others_go_on()


def test_a_process_that_it_names_is_not_touched(escapes: Escapes) -> None:
    """A number in the place of that of a forked process means nothing in an instance."""
    session = escapes.session()
    code_of(session, number_of("forks_for_others"), *escapes.params(os.getpid()))
    escapes.others_go_on()


def test_memory(escapes: Escapes) -> None:
    """Its own limit, and 96 MiB that the engine may take."""
    got = escapes.run("hog")
    assert 0 < got < 64 + 96
    escapes.others_go_on()


def test_it_ruins_itself(escapes: Escapes) -> None:
    session = escapes.session()
    value, *words = escapes.params()
    assert code_of(session, number_of("scribble"), value, *words) == gp.TEE_ERROR_TARGET_DEAD
    escapes.others_go_on()
