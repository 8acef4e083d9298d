# SPDX-License-Identifier: BSD-2-Clause
"""A service that answers with anything: its own session gets it, and nobody else."""

import pytest

from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP, TEE_SUCCESS
from gentee.client import INPUT, MemRef, SharedMemory, TempRef, Value
from tests.functional.test_services import UUID
from tests.security.raw import MakeCaptive, code_of, hostile, result_of, service_host

__all__ = ["hostile", "service_host"]

_ORIGIN = TEE_ORIGIN_TRUSTED_APP


@pytest.mark.parametrize(
    ("ret", "code"),
    [
        ("1 << 32", TEE_SUCCESS),
        ("(1 << 32) + 5", 5),
        ("ANY", 0xFFFFFFFF),
        ("0xFFFF3024", 0xFFFF3024),  # TARGET_DEAD, but the origin is the service's
        ("1 << 63", TEE_SUCCESS),
    ],
)
def test_results(hostile: MakeCaptive, ret: str, code: int) -> None:
    """A result has 32 bits, and is a service's."""
    captive = hostile(f"\n    def attack(self, command, params):\n        answer({ret})\n")
    expected = (code, None if code == TEE_SUCCESS else _ORIGIN)
    assert result_of(captive.session, 1) == expected
    captive.others_go_on()


@pytest.mark.parametrize(
    "words",
    [
        "M_PARAM_TYPES=0x7777",
        "M_PARAM_TYPES=ANY",
        "M_SESSION=1",
        "M_SESSION=ANY",
        "M_FUNC=ANY",
        "M_NUM_MAPS=ANY",
        "M_NUM_MAPS=8, M_MAPS=1",
        "M_NUM_UNMAPS=ANY",
        "M_NUM_UNMAPS=64, M_UNMAPS=1",
        "M_FLAGS=ANY",
        "M_CANCEL=ANY",
        "M_LOGIN=ANY, M_CLIENT_UUID=ANY, M_UUID=ANY",
        "M_MEMORY_LIMIT=ANY",
        "Q_RET=ANY, Q_ORIGIN=ANY, Q_SESSION=1",
    ],
)
def test_words_that_are_no_result(hostile: MakeCaptive, words: str) -> None:
    """They are not looked at: types and numbers are those that the TEE has itself."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        base = ch.M_PARAMS
        words()[base], words()[base + 1] = 1 << 32 | 7, ANY
        op = answer({words})
        while op == ch.TA_INVOKE:
            op = answer(words()[ch.M_FUNC])
        raw(ch.TA_IOC_NEXT)
"""
    )
    value = Value(1, 2)
    assert code_of(captive.session, 1, value) == TEE_SUCCESS
    assert (value.a, value.b) == (7, 0xFFFFFFFF)
    # The next commands come whole, with whatever the service left in the mailbox.
    for code in (5, 6):
        assert result_of(captive.session, code) == (code, _ORIGIN)
    captive.others_go_on()


def test_inputs_stay_as_they_are(hostile: MakeCaptive) -> None:
    captive = hostile(
        """
    def attack(self, command, params):
        for index in range(12):
            words()[ch.M_PARAMS + index] = ANY - index
        answer(M_PARAM_TYPES=0x7373)
"""
    )
    value, text = Value(1, 2, INPUT), TempRef(b"abc")
    assert code_of(captive.session, 1, value, text) == TEE_SUCCESS
    assert (value.a, value.b, text.size, text.out_size) == (1, 2, 3, 3)
    captive.others_go_on()


@pytest.mark.parametrize("reg_mem", [False, True], ids=["shm-alloc", "reg-mem"])
@pytest.mark.parametrize("size", ["ANY", "1 << 63", "(1 << 32) + 16", "4097", "0"])
def test_sizes(hostile: MakeCaptive, size: str, reg_mem: bool) -> None:
    """A size is the service's to say; no byte outside the buffer is touched for it."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        params[0].buffer[:4] = b"abcd"
        base = ch.M_PARAMS
        words()[base], words()[base + 1], words()[base + 2] = ANY, {size}, 12345
        answer()
""",
        reg_mem=reg_mem,
    )
    context = captive.tee.context()
    memory = SharedMemory.allocate(context, 4096)
    memory.buffer[:] = bytes(4096)
    session = context.open_session(UUID)
    reference = MemRef(memory, offset=16, size=32)
    assert code_of(session, 1, reference) == TEE_SUCCESS
    assert reference.out_size == eval(size, {"ANY": (1 << 64) - 1})
    assert bytes(memory.buffer) == bytes(16) + b"abcd" + bytes(4096 - 20)
    captive.others_go_on()


def test_the_whole_mailbox(hostile: MakeCaptive) -> None:
    """Random words everywhere, again and again; the others' results are right in between."""
    captive = hostile(
        """
    def attack(self, command, params):
        chooser = random.Random(command)
        op = ch.TA_INVOKE
        while op == ch.TA_INVOKE:
            for index in range(512):
                words()[index] = (
                    chooser.choice(WORDS) if chooser.random() < 0.5 else chooser.getrandbits(64)
                )
            words()[ch.M_FLAGS] &= ~1 if chooser.random() < 0.5 else ANY
            op = raw(ch.TA_IOC_NEXT)
        raw(ch.TA_IOC_NEXT)
"""
    )
    for turn in range(100):
        value = Value(1, 2)
        code = code_of(captive.session, 1, value)
        assert 0 <= code < 1 << 32
        assert max(value.a, value.b) < 1 << 32
        if turn % 20 == 0:
            captive.others_go_on()
    captive.others_go_on()


def test_lines_that_were_never_written(hostile: MakeCaptive) -> None:
    captive = hostile(
        """
    def attack(self, command, params):
        op = ch.TA_INVOKE
        while op == ch.TA_INVOKE:
            op = answer(M_FLAGS=ch.R_LOGGED)
"""
    )
    for _ in range(50):
        assert code_of(captive.session, 1) == TEE_SUCCESS
    assert captive.said() == []
    captive.others_go_on()


def test_next_without_a_look_at_the_command(hostile: MakeCaptive) -> None:
    """Whoever takes the next command in the middle of one has ended it, with what stands there."""
    captive = hostile(
        """
    def attack(self, command, params):
        for ret in range(1, 5):
            words()[ch.M_RET] = ret
            raw(ch.TA_IOC_NEXT)
"""
    )
    for ret in range(1, 5):
        assert result_of(captive.session, 9) == (ret, _ORIGIN)
    assert code_of(captive.session, 0) == TEE_SUCCESS
    captive.others_go_on()


def test_it_cannot_be_another_one(hostile: MakeCaptive) -> None:
    """Neither by its own token, nor by one that it guesses, nor by numbers that are no calls."""
    captive = hostile(
        """
    def attack(self, command, params):
        results = {raw(ch.TA_IOC_HELLO, token()), raw(ch.TA_IOC_HELLO, ANY)}
        results |= {raw(ch.TA_IOC_HELLO, token() + near) for near in range(-50, 50)}
        results |= {raw(ch.TA_IOC_HELLO, random.getrandbits(62)) for _ in range(200)}
        results |= {raw(ch.TA_IOC_HELLO & ~0xF | number) for number in range(4, 16)}
        params[0].a = len(results)
        params[0].b = -results.pop()
"""
    )
    births = [captive.tee.open() for _ in range(3)]
    value = Value()
    captive.session.invoke(1, value)
    assert (value.a, value.b) == (1, 22)  # EINVAL for each
    for session in births:
        session.invoke(0)
    captive.others_go_on()


def test_other_descriptors_are_the_same_channel(hostile: MakeCaptive) -> None:
    """A locked process makes trapped calls on descriptor 0 only, whatever that is by then."""
    captive = hostile(
        """
    def attack(self, command, params):
        refused = {raw(ch.TA_IOC_WAIT, 0, fd) for fd in (1, 2, 3, 63, -1)}
        params[0].a = refused == {-1}
        os.close(0)
        params[0].b = raw(ch.TA_IOC_WAIT, 0) == 0
"""
    )
    value = Value()
    captive.session.invoke(1, value)
    assert (value.a, value.b) == (1, 1)
    captive.session.invoke(0)
    captive.others_go_on()


@pytest.mark.parametrize(
    "tampering",
    [
        "os.close(1); os.close(2)",
        "os.close(1); os.dup(0); print('to nowhere')",
        "os.closerange(0, 64)",
        "[os.dup(1) for _ in range(50)]",
    ],
)
def test_its_descriptors(hostile: MakeCaptive, tampering: str) -> None:
    """It closes or replaces its log and its place on the channel: it goes on, or ends."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        if command == 1:
            {tampering}
        elif command == 2:
            answer(M_FLAGS=ch.R_LOGGED)
        params and IMSG("hello")
"""
    )
    code_of(captive.session, 1, Value())
    code_of(captive.session, 2, Value())
    code_of(captive.session, 2)
    captive.others_go_on()


@pytest.mark.parametrize(
    "change",
    [
        "os.ftruncate({fd}, 0)",
        "os.ftruncate({fd}, 1 << 30)",
        "fcntl.fcntl({fd}, 1033, 0x1f)",  # F_ADD_SEALS
        "os.posix_fallocate({fd}, 0, 1 << 30)",
        "os.pwrite({fd}, b'x', 0)",
        "os.fchmod({fd}, 0)",
        "fcntl.fcntl({fd}, 1024, 1)",  # F_SETLEASE
    ],
)
def test_files_that_it_was_given_cannot_be_changed(hostile: MakeCaptive, change: str) -> None:
    captive = hostile(
        """
    def attack(self, command, params):
        import fcntl
        assert ask(ch.RQ_CALL_WINDOW, Q_FUNC=4096) == 0
        try:
            CHANGE
        except OSError as error:
            params[0].a = error.errno
""".replace("CHANGE", change.format(fd="words()[ch.Q_FUNC]"))
    )
    value = Value()
    captive.session.invoke(1, value)
    assert value.a == 1  # EPERM
    captive.others_go_on()
