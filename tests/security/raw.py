# SPDX-License-Identifier: BSD-2-Clause
"""Services that leave the runtime behind: raw words in the mailbox, raw trapped calls.

What such a service does is what native code in its process could do, from its one thread.
"""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gentee.abi.gp import TEE_SUCCESS
from gentee.client import Session, Value
from gentee.errors import TeeError
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, open_descriptors, wait_until
from tests.security.captive import Captive, MakeCaptive, service_host

# Behind the class of the service: what its attacks use.
RAW = """
import ctypes, random
from gentee.abi import ta_channel as ch
from gentee.ta.requests import CHANNEL

_libc = ctypes.CDLL(None, use_errno=True)
ANY = (1 << 64) - 1
WORDS = [0, 1, 2, 5, 7, 0x65, 0x7777, 0xffff, 0x10000, (1 << 31), (1 << 32) - 1, 1 << 32,
         (1 << 63), ANY - 4095, ANY - 1, ANY]

def raw(request, argument=0, fd=0):
    "The ioctl itself, with all 64 bits: its value, or -errno."
    result = _libc.ioctl(fd, ctypes.c_ulong(request), ctypes.c_ulong(argument & ANY))
    return -ctypes.get_errno() if result < 0 else result

def words():
    return CHANNEL._words

def answer(ret=0, **other):
    "End the command under way as native code would; the code of the next one."
    words()[ch.M_RET] = ret
    for name, value in other.items():
        words()[getattr(ch, name)] = value
    return raw(ch.TA_IOC_NEXT)

def ask(code, **block):
    "A request with these words in its block; the result, or -errno."
    for name, value in block.items():
        words()[getattr(ch, name)] = value & ANY
    error = raw(ch.TA_IOC_REQUEST, code)
    return error if error < 0 else words()[ch.Q_RET]

def cancelled():
    return words()[ch.M_CANCEL]

def token():
    frame = sys._getframe()
    while frame.f_code.co_name != "serve":
        frame = frame.f_back
    return frame.f_locals["token"]
"""

WORKERS = "gentee-worker"  # threads that end by themselves when they were idle for a while
SLACK = 2  # mailboxes: the receiving thread may remember the last instances that it served


def _threads() -> int:
    return sum(thread.name != WORKERS for thread in threading.enumerate())


def _nothing_runs(tee: Tee) -> bool:
    return tee.instances() == 0


@pytest.fixture
def hostile(service_host: ServiceHost, tmp_path: Path) -> Iterator[MakeCaptive]:
    """``hostile(attack, **options)``, as ``captive``, with what RAW has; nothing may be left."""
    service_host.notifier()
    descriptors, threads = len(open_descriptors()), _threads()
    tees: list[Tee] = []

    def make(attack: str, **options: object) -> Captive:
        tee = Tee(service_host, tmp_path, **options)
        tees.append(tee)
        return Captive(tee, attack + RAW)

    yield make
    for tee in tees:
        for source, _level, line in tee.logged:  # pytest shows it of a test that fails
            print(f"{source}: {line}")
        for context in tee.contexts:
            context.finalize()
        wait_until(partial(_nothing_runs, tee), "an instance is left")
        tee.close()
    wait_until(lambda: len(open_descriptors()) <= descriptors + SLACK, "a descriptor is left")
    wait_until(lambda: _threads() <= threads, "a thread is left")
    assert not service_host.bugs


def code_of(session: Session, command: int, *params: object) -> int:
    """The result of a command, whatever it is."""
    try:
        session.invoke(command, *params)  # type: ignore[arg-type]
    except TeeError as error:
        return error.code
    return TEE_SUCCESS


def result_of(session: Session, command: int, *params: object) -> tuple[int, int | None]:
    """Code and origin; the origin of success is left out."""
    try:
        session.invoke(command, *params)  # type: ignore[arg-type]
    except TeeError as error:
        return error.code, error.origin
    return TEE_SUCCESS, None


__all__ = ["RAW", "MakeCaptive", "Value", "code_of", "hostile", "result_of", "service_host"]
