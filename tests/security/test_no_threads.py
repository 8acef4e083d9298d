# SPDX-License-Identifier: BSD-2-Clause
"""No thread can be had: who has the user's other processes (RLIMIT_NPROC) may see to that.

What would have been done by a worker is done by whoever is there, or refused with a code. No call
is left without an answer.
"""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from gentee.abi import gp
from gentee.client import TempRef, Value
from gentee.core import calls
from gentee.core.calls import InvokeArg
from gentee.core.driver import OpResult
from gentee.core.workers import Workers
from gentee.errors import TeeError
from gentee.secure import clock, instance, window
from tests.functional.test_services import Tee
from tests.helpers import Client, ServiceHost, in_threads, make_device, wait_until
from tests.unit.core.test_calls import UUID, BodyOps

SIZES = [300 << 10, 9 << 20]  # bytes: of a copy by one worker, and of one by several

_TURN = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].write(bytes(params[0].buffer)[::-1])
"""

_TIME = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a = 7
        TEE_SetTAPersistentTime(TEE_Time(1, 0))
"""


class NoThreads(Workers):
    """A pool whose every thread fails to start."""

    def submit(self, job: Callable[[], None]) -> NoReturn:
        raise OSError(errno.EAGAIN, "no thread")


@pytest.mark.parametrize("size", SIZES)
def test_long_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    host = ServiceHost()
    tee = Tee(host, tmp_path, reg_mem=True)
    tee.put(_TURN)
    session = tee.open()
    data = bytearray(range(256)) * (size >> 8)
    expected = data[::-1]
    monkeypatch.setattr(instance, "WORKERS", NoThreads())
    monkeypatch.setattr(window, "WORKERS", NoThreads())
    in_threads(lambda: session.invoke(1, TempRef(data)))
    assert data == expected
    tee.close()
    host.close()


def test_a_request_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = ServiceHost()
    tee = Tee(host, tmp_path)
    tee.put(_TIME)
    session = tee.open()
    session.invoke(1, Value())
    with monkeypatch.context() as patch:
        patch.setattr(clock, "WORKERS", NoThreads())
        with pytest.raises(TeeError) as caught:
            session.invoke(1, Value())
    assert caught.value.code == gp.TEE_ERROR_OUT_OF_MEMORY
    tee.open().invoke(1, Value())
    tee.close()
    host.close()  # it was no bug


def test_a_driver_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class WaitingOps(BodyOps):
        blocking = True

    def body(arg: object) -> OpResult:
        return None

    ops = WaitingOps()
    ops.invoke_body = body
    with Client(make_device(ops)) as client:
        session = client.open_session(UUID)
        with monkeypatch.context() as patch:
            patch.setattr(calls, "WORKERS", NoThreads())
            call = client.invoke(session, 0)
            wait_until(lambda: not client.ctx.pending)
            assert isinstance(call.arg, InvokeArg)
            assert call.arg.error == errno.EAGAIN
        assert client.invoke(session, 0).result[0] == gp.TEE_SUCCESS
