# SPDX-License-Identifier: BSD-2-Clause
"""The TEE's side of the channel takes any mailbox; and a live service that says anything."""

from struct import Struct
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP
from gentee.core.calls import InvokeArg, OpenSessionArg
from gentee.core.params import TeeParam
from gentee.core.shm import TeeShm
from gentee.secure.commands import InvokeCommand, OpenCommand
from gentee.secure.instance import Instance
from gentee.secure.requests import Request
from gentee.secure.window import Window
from tests.functional.test_services import OTHER
from tests.helpers import OwnMemory, make_device
from tests.security.raw import MakeCaptive, Value, code_of, hostile, service_host

__all__ = ["hostile", "service_host"]

WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 7, 0x7777, 0xFFFF, 1 << 32, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]),
)
COUNT = ch.MAILBOX_SIZE // 8
MAILBOXES = st.lists(WORDS, min_size=160, max_size=160).map(
    lambda words: bytearray(Struct(f"<{COUNT}Q").pack(*words, *[words[-1]] * (COUNT - 160)))
)
_FIXED = (1, 5)  # types that are only input: VALUE_INPUT, MEMREF_INPUT


class _Instance:
    """What a command uses of an instance when it is done."""

    def __init__(self, mailbox: bytearray) -> None:
        self.mailbox = mailbox
        self.words = memoryview(mailbox).cast("Q")
        self.window = Window()
        self.refused: list[int] = []
        self.created_with: list[tuple[int, int]] = []

    def session_refused(self, session: int) -> None:
        self.refused.append(session)


class _Context:
    def __init__(self) -> None:
        self.teedev = make_device()
        self.pending: set[Any] = set()
        self.sessions: dict[int, Any] = {}
        self.idle = None
        self.releasing = False


def _shm(memory: OwnMemory) -> TeeShm:
    shm = TeeShm(cast(Any, _Context()), memory.size, 0)
    shm.backing = memory
    return shm


@given(mailbox=MAILBOXES, kinds=st.lists(st.sampled_from([0, 1, 2, 3, 5, 6, 7]), max_size=4),
       opens=st.booleans())  # fmt: skip
def test_results(mailbox: bytearray, kinds: list[int], opens: bool) -> None:
    """Of a result come 32 bits, values of 32 bits and sizes; outputs only, and no byte outside."""
    memory = OwnMemory(bytes(range(64)))
    params = []
    for kind in kinds:
        if kind < 5:
            params.append(TeeParam(kind, 1, 2))
        else:
            params.append(TeeParam(kind, 16, 8, shm=_shm(memory)))
    before = [(param.a, param.b) for param in params]
    instance = _Instance(mailbox)
    done: list[Any] = []
    ctx = cast(Any, _Context())
    target = cast(Instance, instance)
    command: InvokeCommand | OpenCommand
    if opens:
        arg = OpenSessionArg(ctx, bytes(16), bytes(16), 0, 0, params, done.append)
        command = OpenCommand(ch.TA_OPEN_SESSION, target, 1, arg)
    else:
        invoke = InvokeArg(ctx, 0, 1, 0, params, done.append)
        command = InvokeCommand(ch.TA_INVOKE, target, 1, invoke)
    if command.layout is not None:
        instance.window.fit(command.layout.size)
        instance.window.copy_in(command.layout)
    ret = instance.words[ch.M_RET] & 0xFFFF_FFFF
    command.done(target)
    (answered,) = done
    assert (answered.ret, answered.ret_origin) == (ret, TEE_ORIGIN_TRUSTED_APP)
    assert bool(instance.refused) == (opens and ret != 0)
    assert memory.data == bytes(range(64))
    for index, (kind, param) in enumerate(zip(kinds, params, strict=True)):
        base = ch.M_PARAMS + 3 * index
        a, b = instance.words[base], instance.words[base + 1]
        if kind in (2, 3):
            assert (param.a, param.b) == (a & 0xFFFF_FFFF, b & 0xFFFF_FFFF)
        elif kind in (6, 7):
            assert (param.a, param.b) == (16, b)
        else:
            assert (param.a, param.b) == before[index]


@given(MAILBOXES)
def test_requests(mailbox: bytearray) -> None:
    request = Request(cast(Instance, _Instance(mailbox)), 1)
    assert 0 <= request.timeout < 1 << 32
    assert len(request.uuid) == 16
    assert len(request.params) == 12
    whole = Struct(f"<{COUNT}Q").unpack(mailbox)
    assert [request.word(index) for index in range(ch.Q_BLOCK, ch.Q_BLOCK + ch.Q_WORDS)] == list(
        whole[ch.Q_BLOCK : ch.Q_BLOCK + ch.Q_WORDS]
    )


_SERVICE = f"""
    def attack(self, command, params):
        chooser = random.Random(command)
        uuids = ["{OTHER.replace("-", "")}", self.uuid.replace("-", ""), 32 * "7"]
        calls = [ch.TA_IOC_HELLO, ch.TA_IOC_NEXT, ch.TA_IOC_WAIT] + 9 * [ch.TA_IOC_REQUEST]
        for step in range(200):
            for _ in range(chooser.randrange(40)):
                index = chooser.choice([chooser.randrange(512), chooser.randrange(128, 150)])
                words()[index] = chooser.choice([chooser.choice(WORDS), chooser.getrandbits(64)])
            if chooser.random() < 0.5:
                uuid = bytes.fromhex(chooser.choice(uuids))
                words()[ch.Q_UUID] = int.from_bytes(uuid[:8], "little")
                words()[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")
                words()[ch.Q_PARAM_TYPES] = chooser.choice([0, 1, 2, 3, 5, 6, 7])
                words()[ch.Q_TIMEOUT] = 50
            call = chooser.choice(calls)
            argument = chooser.choice([0, 1, 2, 3, 4, 5, 6, 7, chooser.getrandbits(64)])
            if call == ch.TA_IOC_WAIT:
                argument &= 1
            if raw(call, argument) == ch.TA_DESTROY:
                os._exit(0)
"""


def test_a_live_service(hostile: MakeCaptive) -> None:
    """Sessions of a service that makes any call with any words; the honest one is right."""
    captive = hostile(_SERVICE, cpu_limit=5)
    for seed in range(1, max(4, settings().max_examples // 50)):
        session = captive.tee.open()
        for turn in range(20):
            value = Value(seed, turn)
            assert 0 <= code_of(session, seed << 8 | turn | 1, value) < 1 << 32
            assert max(value.a, value.b) < 1 << 32
        captive.others_go_on()
        session.close()
