# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.supp: requests reach the supplicant once and in order, answers whoever asked."""

import errno
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gentee.abi import linux_tee as tee
from gentee.abi.gp import TEE_ERROR_COMMUNICATION, TEE_SUCCESS
from gentee.core.calls import SuppRecvArg
from gentee.core.context import TeeContext
from gentee.core.driver import OpResult
from gentee.core.params import TeeParam
from gentee.core.supp import Supplicant, SuppRequest
from tests.helpers import (
    META,
    NONE,
    PATIENCE,
    Call,
    Client,
    MinimalOps,
    Param,
    in_threads,
    make_device,
    value_in,
    value_inout,
)

META_VALUE = tee.TEE_IOCTL_PARAM_ATTR_META | tee.TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT


class SuppOps(MinimalOps):
    """A privileged device that is nothing but its queue."""

    def __init__(self) -> None:
        self.supplicant = Supplicant()

    def open(self, ctx: TeeContext) -> None:
        self.supplicant.open(ctx)

    def release(self, ctx: TeeContext) -> None:
        self.supplicant.close(ctx)

    def supp_recv(self, ctx: TeeContext, arg: SuppRecvArg) -> OpResult:
        return self.supplicant.recv(arg)

    def supp_send(self, ctx: TeeContext, ret: int, params: list[TeeParam]) -> None:
        self.supplicant.send(ret, params)


class Asker:
    """Who asks the supplicant, and what it was told."""

    def __init__(
        self, supplicant: Supplicant, func: int, *params: TeeParam, nowait: bool = False
    ) -> None:
        self.params = list(params)
        self.answers: list[int] = []
        self._answered = threading.Event()
        self.request: SuppRequest = supplicant.request(func, self.params, self._done, nowait=nowait)

    def _done(self, ret: int, params: list[TeeParam]) -> None:
        assert params is self.params
        self.answers.append(ret)
        self._answered.set()

    def wait_answer(self) -> int:
        if not self._answered.wait(PATIENCE):
            raise TimeoutError("no answer")
        (answer,) = self.answers
        return answer


def number_of(received: Call) -> int:
    """The id of a request that was received."""
    attr, number, b, c = received.wait_done().params[0]
    assert (attr, b, c) == (META_VALUE, 0, 0)
    return number


def answer(received: Call, *params: Param) -> list[Param]:
    return [(META_VALUE, number_of(received), 0, 0), *params]


@pytest.fixture
def ops() -> SuppOps:
    return SuppOps()


@pytest.fixture
def supp(ops: SuppOps) -> Client:
    return Client(make_device(ops, privileged=True))


def test_there_and_back(ops: SuppOps, supp: Client) -> None:
    shm = supp.shm_alloc(4096)
    asker = Asker(
        ops.supplicant,
        2,
        TeeParam(tee.TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, 1, 2, 3),
        TeeParam(tee.TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, 4, 5, 6),
        TeeParam(tee.TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, 16, 32, 0, shm),
        TeeParam(tee.TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, 0, 8, 0, shm),
    )
    received = supp.supp_recv()
    number = number_of(received)
    assert received.arg.func == 2
    assert received.params == [
        (META_VALUE, number, 0, 0),
        (1, 1, 2, 3),
        (3, 4, 5, 6),
        (7, 16, 32, shm.id),
        (5, 0, 8, shm.id),
    ]
    assert shm.refcount == 1
    assert asker.answers == []
    # Everything is changed that can be; most of it does not count.
    supp.supp_send(
        7, [(META_VALUE, number, 9, 9), (3, 9, 9, 9), (3, 10, 11, 12), (7, 9, 99, 9), (6, 9, 9, 9)]
    )
    assert asker.wait_answer() == 7
    one, two, three, four = asker.params
    assert (one.a, one.b, one.c) == (1, 2, 3)
    assert (two.a, two.b, two.c) == (10, 11, 12)
    assert (three.a, three.b, three.shm) == (16, 99, shm)
    assert (four.a, four.b, four.shm) == (0, 8, shm)


def test_a_receiver_waits_for_a_request(ops: SuppOps, supp: Client) -> None:
    received = supp.supp_recv()
    assert not received.is_done
    asker = Asker(ops.supplicant, 5)
    assert number_of(received) == 1
    assert len(received.arg.params) == 1  # what the client gets as num_params
    supp.supp_send(TEE_SUCCESS, answer(received))
    assert asker.wait_answer() == TEE_SUCCESS


def test_requests_and_receivers_in_order(ops: SuppOps, supp: Client) -> None:
    waiting = [supp.supp_recv() for _ in range(2)]
    for func in range(4):
        Asker(ops.supplicant, func)
    received = waiting + [supp.supp_recv() for _ in range(2)]
    assert [call.wait_done().arg.func for call in received] == [0, 1, 2, 3]
    assert [number_of(call) for call in received] == [1, 2, 3, 4]


def test_answers_in_any_order(ops: SuppOps, supp: Client) -> None:
    askers = [Asker(ops.supplicant, func) for func in range(3)]
    received = [supp.supp_recv() for _ in range(3)]
    for index in (1, 2, 0):
        supp.supp_send(100 + index, answer(received[index]))
    assert [asker.wait_answer() for asker in askers] == [100, 101, 102]
    # The lowest free id is used again.
    Asker(ops.supplicant, 0)
    assert number_of(supp.supp_recv()) == 1


def test_only_one_supplicant(ops: SuppOps, supp: Client) -> None:
    with pytest.raises(OSError) as caught:
        Client(supp.device)
    assert caught.value.errno == errno.EBUSY
    # The one that was refused does no harm to the one that is there.
    Asker(ops.supplicant, 1)
    assert number_of(supp.supp_recv()) == 1
    supp.close()
    Client(supp.device).close()


def test_requests_wait_for_a_supplicant(ops: SuppOps) -> None:
    asker = Asker(ops.supplicant, 3)
    assert asker.answers == []
    with Client(make_device(ops, privileged=True)) as supp:
        received = supp.supp_recv()
        supp.supp_send(4, answer(received))
    assert asker.wait_answer() == 4


def test_nowait(ops: SuppOps, supp: Client) -> None:
    asker = Asker(ops.supplicant, 3, nowait=True)
    assert asker.answers == []
    supp.close()
    assert asker.wait_answer() == TEE_ERROR_COMMUNICATION
    assert Asker(ops.supplicant, 3, nowait=True).answers == [TEE_ERROR_COMMUNICATION]


def test_when_the_supplicant_dies(ops: SuppOps, supp: Client) -> None:
    taken = Asker(ops.supplicant, 0)
    received = supp.supp_recv()
    number_of(received)
    queued = Asker(ops.supplicant, 1)
    supp.close()
    assert taken.wait_answer() == queued.wait_answer() == TEE_ERROR_COMMUNICATION
    # The next one starts afresh: old ids mean nothing to it.
    with Client(supp.device) as following:
        with pytest.raises(OSError) as caught:
            following.supp_send(0, answer(received))
        assert caught.value.errno == errno.ENOENT
        Asker(ops.supplicant, 2)
        assert number_of(following.supp_recv()) == 1


def test_receivers_end_with_their_context(ops: SuppOps, supp: Client) -> None:
    received = [supp.supp_recv() for _ in range(2)]
    supp.close()
    for call in received:
        with pytest.raises(OSError) as caught:
            call.wait_done()
        assert caught.value.errno == errno.EINTR
    with pytest.raises(OSError) as caught:
        supp.supp_recv().wait_done()
    assert caught.value.errno == errno.EBADF


def test_who_is_not_the_supplicant(ops: SuppOps, supp: Client) -> None:
    waiting = supp.supp_recv()
    other = TeeContext(supp.device)
    ops.supplicant.close(other)
    assert not waiting.is_done
    with pytest.raises(OSError) as caught:
        ops.supplicant.recv(SuppRecvArg(other, [TeeParam(META[0])], Call([]).received))
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    "room",
    [
        [],
        [NONE],
        [value_inout()],
        [value_in()],
        [META, value_in()],
        [META, (tee.TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, 0, 0, tee.TEE_MEMREF_NULL)],
        [NONE, META],
    ],
)
def test_room_that_is_none(ops: SuppOps, room: list[Param]) -> None:
    ops.version = (1, 0, tee.TEE_GEN_CAP_MEMREF_NULL)
    with Client(make_device(ops, privileged=True)) as supp:
        asker = Asker(ops.supplicant, 0)
        with pytest.raises(OSError) as caught:
            supp.supp_recv(room).wait_done()
        assert caught.value.errno == errno.EINVAL
        assert number_of(supp.supp_recv([META, META])) == 1
        assert asker.answers == []


def test_memory_is_no_room(ops: SuppOps, supp: Client) -> None:
    shm = supp.shm_alloc(1)
    with pytest.raises(OSError) as caught:
        supp.supp_recv([META, (5, 0, 1, shm.id)]).wait_done()
    assert caught.value.errno == errno.EINVAL
    assert shm.refcount == 1


def test_too_little_room(ops: SuppOps, supp: Client) -> None:
    waiting = [supp.supp_recv([META]), supp.supp_recv([META, NONE])]
    asker = Asker(ops.supplicant, 9, TeeParam(1), TeeParam(1))
    for call in (*waiting, supp.supp_recv([META, NONE])):
        with pytest.raises(OSError) as caught:
            call.wait_done()
        assert caught.value.errno == errno.EINVAL
    # The request is still there for who has room.
    received = supp.supp_recv([META, NONE, NONE])
    assert number_of(received) == 1
    supp.supp_send(0, answer(received, NONE, NONE))
    assert asker.wait_answer() == 0


def test_wrong_answers(ops: SuppOps, supp: Client) -> None:
    asker = Asker(ops.supplicant, 0, TeeParam(3, 1))
    received = supp.supp_recv()
    number = number_of(received)
    for params, error in (
        ([], errno.EINVAL),
        ([META], errno.EINVAL),
        ([(3, number, 0, 0), NONE], errno.EINVAL),
        ([(META_VALUE, number, 0, 0)], errno.EINVAL),
        ([(META_VALUE, number, 0, 0), NONE, NONE], errno.EINVAL),
        ([(META_VALUE, number + 1, 0, 0), NONE], errno.ENOENT),
        ([(META_VALUE, 0, 0, 0), NONE], errno.ENOENT),
    ):
        with pytest.raises(OSError) as caught:
            supp.supp_send(0, params)
        assert caught.value.errno == error
    assert asker.answers == []
    supp.supp_send(5, answer(received, value_inout(8)))
    assert asker.wait_answer() == 5
    assert asker.params[0].a == 8
    with pytest.raises(OSError) as caught:
        supp.supp_send(5, answer(received, value_inout(8)))
    assert caught.value.errno == errno.ENOENT


def test_withdrawn_before_it_was_seen(ops: SuppOps, supp: Client) -> None:
    first, second = Asker(ops.supplicant, 1), Asker(ops.supplicant, 2)
    first.request.withdraw()
    first.request.withdraw()
    assert first.wait_answer() == TEE_ERROR_COMMUNICATION
    assert supp.supp_recv().wait_done().arg.func == 2
    assert second.answers == []


def test_withdrawn_while_the_supplicant_is_at_work(ops: SuppOps, supp: Client) -> None:
    asker = Asker(ops.supplicant, 1, TeeParam(3, 1))
    received = supp.supp_recv()
    number = number_of(received)
    asker.request.withdraw()
    assert asker.wait_answer() == TEE_ERROR_COMMUNICATION
    # Until it answers its id is nobody else's.
    Asker(ops.supplicant, 2)
    assert number_of(supp.supp_recv()) != number
    with pytest.raises(OSError) as caught:
        supp.supp_send(0, answer(received, value_inout(9)))
    assert caught.value.errno == errno.ENOENT
    assert asker.params[0].a == 1
    Asker(ops.supplicant, 3)
    assert number_of(supp.supp_recv()) == number


def test_withdrawn_after_the_answer(ops: SuppOps, supp: Client) -> None:
    asker = Asker(ops.supplicant, 1)
    received = supp.supp_recv()
    supp.supp_send(3, answer(received))
    asker.request.withdraw()
    assert asker.wait_answer() == 3


def test_a_receiver_that_is_gone_takes_no_request(ops: SuppOps, supp: Client) -> None:
    gone, there = supp.supp_recv(), supp.supp_recv()
    gone.arg.abandon()
    with pytest.raises(OSError) as caught:
        gone.wait_done()
    assert caught.value.errno == errno.EINTR
    Asker(ops.supplicant, 1)
    assert number_of(there) == 1


def test_a_receiver_marked_gone_but_not_yet_cancelled(ops: SuppOps, supp: Client) -> None:
    gone, there = supp.supp_recv(), supp.supp_recv()
    gone.arg.abandoned = True  # the first half of abandon()
    Asker(ops.supplicant, 1)
    assert number_of(there) == 1
    gone.arg.cancel()  # the second
    with pytest.raises(OSError) as caught:
        gone.wait_done()
    assert caught.value.errno == errno.EINTR


def test_abandoned_before_it_began(ops: SuppOps, supp: Client) -> None:
    Asker(ops.supplicant, 1)
    call = Call([META])
    call.arg = SuppRecvArg(supp.ctx, [TeeParam(META[0])], call.received)
    call.arg.abandon()
    call.arg.run(ops.supp_recv, supp.ctx, call.arg)
    with pytest.raises(OSError) as caught:
        call.wait_done()
    assert caught.value.errno == errno.EINTR
    assert number_of(supp.supp_recv()) == 1


def test_a_receiver_that_died_with_its_answer_gives_the_request_back(
    ops: SuppOps, supp: Client
) -> None:
    first, second = Asker(ops.supplicant, 1), Asker(ops.supplicant, 2)
    dead = supp.supp_recv()
    number = number_of(dead)
    dead.arg.abandon()
    dead.arg.abandon()
    # It is the first again, under a new life of its id.
    received = supp.supp_recv()
    assert (received.arg.func, number_of(received)) == (1, number)
    supp.supp_send(6, answer(received))
    assert first.wait_answer() == 6
    dead.arg.abandon()  # too late to matter
    assert supp.supp_recv().wait_done().arg.func == 2
    assert second.answers == []
    assert dead.times_done == 1


def test_given_back_to_one_who_waits(ops: SuppOps, supp: Client) -> None:
    Asker(ops.supplicant, 1)
    dead = supp.supp_recv()
    number_of(dead)
    waiting = supp.supp_recv()
    dead.arg.abandon()
    assert waiting.wait_done().arg.func == 1


def test_threads_lose_and_double_nothing(ops: SuppOps, supp: Client) -> None:
    askers: list[Asker] = []
    served: list[int] = []
    each, workers = 100, 4

    def ask() -> None:
        for _ in range(each):
            asker = Asker(ops.supplicant, 1, TeeParam(3, 20))
            askers.append(asker)
            assert asker.wait_answer() == 77
            assert asker.params[0].a == 21

    def serve() -> None:
        while len(served) < each * workers:
            received = supp.supp_recv().wait_done()
            if received.arg.func == 0:
                return
            attr, a, b, c = received.params[1]
            served.append(a)
            supp.supp_send(77, answer(received, (attr, a + 1, b, c)))

    servers = [threading.Thread(target=serve, daemon=True) for _ in range(3)]
    for server in servers:
        server.start()
    in_threads(*[ask] * workers)
    assert len(served) == each * workers
    # Those that wait for more are told to end.
    for server in servers:
        if server.is_alive():
            Asker(ops.supplicant, 0)
    for server in servers:
        server.join(PATIENCE)
        assert not server.is_alive()


class SupplicantMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: one answer to each request, and ids as in the kernel."""

    requests = Bundle("requests")
    receivers = Bundle("receivers")

    def __init__(self) -> None:
        super().__init__()
        self.ops = SuppOps()
        self.device = make_device(self.ops, privileged=True)
        self.supp = Client(self.device)
        self.asked: list[Asker] = []

    @rule(target=requests, func=st.integers(0, 9), count=st.integers(0, 2))
    def ask(self, func: int, count: int) -> Asker:
        asker = Asker(self.ops.supplicant, func, *(TeeParam(3, i) for i in range(count)))
        self.asked.append(asker)
        return asker

    @rule(target=receivers, room=st.integers(0, 2))
    def receive(self, room: int) -> Call:
        return self.supp.supp_recv([META] + [NONE] * room)

    @rule(asker=requests)
    def withdraw(self, asker: Asker) -> None:
        asker.request.withdraw()
        assert len(asker.answers) == 1

    @rule(received=receivers)
    def abandon(self, received: Call) -> None:
        received.arg.abandon()
        assert received.is_done

    @rule(received=consumes(receivers), ret=st.integers(0, 2**32 - 1))
    def send(self, received: Call, ret: int) -> None:
        if not received.is_done or received.arg.error:
            return
        number, request = received.params[0][1], None
        for asker in self.asked:
            if asker.request.id == number:
                request = asker
        params = received.params[: len(received.arg.params)]
        if request is None or len(params) - 1 != len(request.params):
            with pytest.raises(OSError):
                self.supp.supp_send(ret, params)
        else:
            self.supp.supp_send(ret, params)
            assert request.answers == [ret]

    @rule()
    def die_and_come_again(self) -> None:
        self.supp.close()
        assert all(len(asker.answers) == 1 for asker in self.asked)
        self.supp = Client(self.device)

    @invariant()
    def one_answer_at_most(self) -> None:
        assert all(len(asker.answers) <= 1 for asker in self.asked)

    @invariant()
    def ids_are_unique(self) -> None:
        taken = [asker.request.id for asker in self.asked if asker.request.id]
        assert len(set(taken)) == len(taken)
        assert not any(asker.answers for asker in self.asked if asker.request.id)

    def teardown(self) -> None:
        self.supp.close()
        assert all(len(asker.answers) == 1 for asker in self.asked)


TestSupplicantMachine = SupplicantMachine.TestCase
TestSupplicantMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
