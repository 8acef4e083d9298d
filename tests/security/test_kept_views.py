# SPDX-License-Identifier: BSD-2-Clause
"""Memory of a client's is a service's for the call only."""

import pytest

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_TARGET_DEAD, TEE_SUCCESS
from gentee.client import MemRef, Session, SharedMemory, Value
from gentee.errors import TeeError
from tests.functional.test_services import UUID
from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]

_KEEPS = {
    "the reference": "params[0]",
    "the view": "params[0].buffer",
    "a slice": "params[0].buffer[1:]",
    "a cast": "params[0].buffer.cast('H')",
    "a copy of the view": "memoryview(params[0].buffer)",
    "the object behind it": "params[0].buffer.obj",
    "a slice in a cycle": "cycle(params[0].buffer[1:])",
    "a slice that the collector does not see": "hidden(params[0].buffer[1:])",
    "a pickle buffer": "PickleBuffer(params[0].buffer)",
    "a ctypes array": "(ctypes.c_char * 16).from_buffer(params[0].buffer)",
}

_ATTACK = """
    def attack(self, command, params):
        global KEPT
        if command == 1:
            KEPT = {code}
            return
        if command == 2:
            KEPT = {code}
            raise BadParameters("with its frames")
        kept = KEPT.buffer if isinstance(KEPT, Memref) else KEPT
        if kept is None:
            return
        try:
            IMSG("stolen " + bytes(memoryview(kept)[:4]).hex())
        except ValueError:
            pass

import ctypes, gc
from pickle import PickleBuffer

def cycle(view):
    ring = [view]
    ring.append(ring)
    return view

def hidden(view):
    gc.freeze()
    return view
"""


def result_of(session: Session, command: int, parameter: MemRef | Value) -> int:
    try:
        session.invoke(command, parameter)
    except TeeError as error:
        return error.code
    return TEE_SUCCESS


@pytest.mark.parametrize("command", [1, 2], ids=["success", "error"])
@pytest.mark.parametrize("code", _KEEPS.values(), ids=list(_KEEPS))
def test_what_is_kept(captive: MakeCaptive, code: str, command: int) -> None:
    """It cannot be used later: that is an error, or the end of the service."""
    hostile = captive(_ATTACK.format(code=code))
    context = hostile.tee.context()
    memory = SharedMemory.allocate(context, 4096)
    memory.buffer[:4] = b"\x11\x22\x33\x44"
    session = context.open_session(UUID)
    assert result_of(session, command, MemRef(memory)) in (TEE_SUCCESS, TEE_ERROR_BAD_PARAMETERS)
    memory.buffer[:4] = b"\x55\x66\x77\x88"
    assert result_of(session, 3, Value()) in (TEE_SUCCESS, TEE_ERROR_TARGET_DEAD)
    assert not [line for line in hostile.said() if "stolen" in line]
    hostile.others_go_on()


def test_a_map_that_moved_is_used_again(captive: MakeCaptive) -> None:
    """A careless service keeps slices; its calls go on, with the client's own pages."""
    hostile = captive(
        """
    KEPT = []
    def attack(self, command, params):
        view = params[0].buffer
        self.KEPT.append(view[2:])
        view[command] = command
"""
    )
    context = hostile.tee.context()
    memory = SharedMemory.allocate(context, 8192)
    session = context.open_session(UUID)
    for command in range(1, 20):
        session.invoke(command, MemRef(memory))
    assert bytes(memory.buffer[1:20]) == bytes(range(1, 20))
    assert hostile.tee.instances() == 3
