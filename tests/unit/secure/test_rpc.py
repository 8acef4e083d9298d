# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.rpc: requests to a supplicant that lends memory, and to one that does not play."""

from collections.abc import Iterator

import pytest

from gentee.abi.gp import (
    TEE_ERROR_COMMUNICATION,
    TEE_ERROR_GENERIC,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import TEE_MEMREF_NULL
from gentee.abi.optee_rpc import OPTEE_RPC_CMD_SHM_ALLOC, OPTEE_RPC_CMD_SHM_FREE
from gentee.core.params import TeeParam
from gentee.core.supp import SuppDone, Supplicant, SuppRequest
from gentee.drivers.soft.supp import SoftSuppOps
from gentee.errors import TeeError
from gentee.secure.rpc import Payload, Rpc
from tests.helpers import (
    META,
    Client,
    LocalHost,
    OwnMemory,
    Param,
    make_device,
    value_in,
    value_inout,
    wait_until,
)

META_VALUE = META[0] | 3


class Normal:
    """The normal world: a supplicant, whose moves are the test's."""

    def __init__(self) -> None:
        self.host = LocalHost()
        self.supplicant = Supplicant()
        self.device = make_device(SoftSuppOps(self.supplicant, 1), privileged=True)
        self.client: Client | None = None
        self.errors: list[TeeError] = []
        self.rpc = Rpc(self.supplicant, self.host, self.errors.append)

    def come(self) -> Client:
        self.client = Client(self.device)
        return self.client

    def receive(self) -> tuple[int, int, list[Param]]:
        """Function, id and parameters of the next request."""
        assert self.client is not None
        call = self.client.supp_recv().wait_done()
        params = call.params
        return call.arg.func, params[0][1], params[1 : len(call.arg.params)]

    def answer(self, number: int, *params: Param, ret: int = TEE_SUCCESS) -> None:
        assert self.client is not None
        self.client.supp_send(ret, [(META_VALUE, number, 0, 0), *params])


@pytest.fixture
def normal() -> Iterator[Normal]:
    normal = Normal()
    yield normal
    if normal.client is not None:
        normal.client.close()
    normal.host.close()


def test_a_call(normal: Normal) -> None:
    normal.come()
    results: list[tuple[int, list[TeeParam]]] = []
    normal.rpc.call(77, [TeeParam(3, 1, 2, 3)], lambda ret, params: results.append((ret, params)))
    func, number, params = normal.receive()
    assert (func, params) == (77, [(3, 1, 2, 3)])
    normal.answer(number, value_inout(4, 5, 6), ret=9)
    wait_until(lambda: results)
    ((ret, (param,)),) = results
    assert (ret, param.a, param.b, param.c) == (9, 4, 5, 6)


def test_nobody_is_there(normal: Normal) -> None:
    results: list[int] = []
    normal.rpc.call(77, [], lambda ret, params: results.append(ret))
    wait_until(lambda: results == [TEE_ERROR_COMMUNICATION])
    Rpc(None, normal.host, normal.errors.append).call(77, [], lambda ret, _: results.append(ret))
    assert results == [TEE_ERROR_COMMUNICATION] * 2


@pytest.mark.parametrize("registered", [False, True])
def test_memory(normal: Normal, registered: bool) -> None:
    client = normal.come()
    payloads: list[Payload] = []
    normal.rpc.alloc(100, payloads.append)
    func, number, params = normal.receive()
    assert func == OPTEE_RPC_CMD_SHM_ALLOC
    assert params == [(3, 0, 100, 0)]
    memory = OwnMemory(bytes(100))
    shm = client.shm_register(memory, 100) if registered else client.shm_alloc(100)
    normal.answer(number, value_inout(0, 100, shm.id))
    wait_until(lambda: payloads)
    (payload,) = payloads
    assert (payload.size, payload.param().shm) == (100, shm)
    payload.write(b"to the normal world")
    content = memory.data if registered else bytes(shm.view())
    assert content.startswith(b"to the normal world\0")
    assert payload.read(6) == b"to the"
    normal.rpc.free(payload)
    func, number, params = normal.receive()
    assert (func, params) == (OPTEE_RPC_CMD_SHM_FREE, [(1, 0, shm.id, 0)])
    normal.answer(number, value_in())
    normal.rpc.free(payload)
    assert shm.refcount == 1
    shm.put()


def test_no_bytes_need_no_memory(normal: Normal) -> None:
    payloads: list[Payload] = []
    normal.rpc.alloc(0, payloads.append)
    (payload,) = payloads
    payload.write(b"")
    assert (payload.read(0), payload.param().shm, payload.param().b) == (b"", None, 0)
    normal.rpc.free(payload)


def no_memory(normal: Normal) -> None:
    wait_until(lambda: normal.errors)
    assert [error.code for error in normal.errors] == [TEE_ERROR_OUT_OF_MEMORY]


def test_a_supplicant_without_memory(normal: Normal) -> None:
    normal.come()
    normal.rpc.alloc(100, lambda payload: pytest.fail("there is none"))
    _func, number, params = normal.receive()
    normal.answer(number, *params, ret=TEE_ERROR_GENERIC)
    no_memory(normal)


@pytest.mark.parametrize("shm_id", [0, 77, TEE_MEMREF_NULL])
def test_memory_that_it_has_not(normal: Normal, shm_id: int) -> None:
    normal.come()
    normal.rpc.alloc(100, lambda payload: pytest.fail("there is none"))
    _func, number, _params = normal.receive()
    normal.answer(number, value_inout(0, 100, shm_id))
    no_memory(normal)


def test_too_little_memory(normal: Normal) -> None:
    client = normal.come()
    normal.rpc.alloc(5000, lambda payload: pytest.fail("it is too little"))
    _func, number, _params = normal.receive()
    shm = client.shm_alloc(4096)
    normal.answer(number, value_inout(0, 5000, shm.id))
    no_memory(normal)
    func, number, params = normal.receive()
    assert (func, params) == (OPTEE_RPC_CMD_SHM_FREE, [(1, 0, shm.id, 0)])
    assert shm.refcount == 1
    shm.put()


def test_a_supplicant_that_dies(normal: Normal) -> None:
    client = normal.come()
    normal.rpc.alloc(100, lambda payload: pytest.fail("nobody is there"))
    normal.receive()
    client.close()
    no_memory(normal)


def test_a_step_that_fails_gives_its_memory_back(normal: Normal) -> None:
    client = normal.come()

    def fail(payload: Payload) -> None:
        raise TeeError(0x1234)

    normal.rpc.alloc(100, fail)
    _func, number, _params = normal.receive()
    shm = client.shm_alloc(100)
    normal.answer(number, value_inout(0, 100, shm.id))
    wait_until(lambda: normal.errors)
    assert normal.errors[0].code == 0x1234
    assert normal.receive()[0] == OPTEE_RPC_CMD_SHM_FREE
    assert shm.refcount == 1
    shm.put()


def test_cancelled(normal: Normal) -> None:
    normal.come()
    results: list[int] = []
    normal.rpc.call(77, [], lambda ret, params: results.append(ret))
    normal.rpc.cancel()
    wait_until(lambda: results == [TEE_ERROR_COMMUNICATION])
    normal.rpc.call(78, [], lambda ret, params: results.append(ret))
    assert results == [TEE_ERROR_COMMUNICATION] * 2


def test_an_answer_that_is_faster_than_its_question(
    normal: Normal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request is under way before the first call returns: that is what is taken back."""
    client = normal.come()
    ask = normal.supplicant.request
    results: list[int] = []

    def then(_ret: int, _params: list[TeeParam]) -> None:
        normal.rpc.call(78, [], lambda ret, params: results.append(ret))

    def request(
        func: int, params: list[TeeParam], done: SuppDone, *, nowait: bool = False
    ) -> SuppRequest:
        made = ask(func, params, done, nowait=nowait)
        if func == 77:
            _func, number, _params = normal.receive()
            normal.answer(number)
            wait_until(lambda: len(normal.supplicant._queue) == 1)
        return made

    monkeypatch.setattr(normal.supplicant, "request", request)
    normal.rpc.call(77, [], then)
    wait_until(lambda: normal.rpc._request is not None)
    normal.rpc.cancel()
    wait_until(lambda: results == [TEE_ERROR_COMMUNICATION])
    assert client is normal.client
