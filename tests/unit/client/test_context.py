# SPDX-License-Identifier: BSD-2-Clause
"""Context and Session: finding a TEE, opening, results and origins, the order of ends."""

import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_SHORT_BUFFER,
    TEE_LOGIN_REE_KERNEL,
    TEE_ORIGIN_TRUSTED_APP,
    TEEC_ORIGIN_API,
    TEEC_ORIGIN_COMMS,
    TEEC_ORIGIN_TEE,
)
from gentee.abi.linux_tee import (
    TEE_GEN_CAP_GP,
    TEE_GEN_CAP_PRIVILEGED,
    TEE_IMPL_ID_OPTEE,
    TEE_OPTEE_CAP_TZ,
)
from gentee.client import (
    INPUT,
    TEEC_LOGIN_GROUP,
    TEEC_LOGIN_USER,
    Context,
    DeviceDoor,
    Operation,
    Out,
    Session,
    SharedMemory,
    Value,
)
from gentee.client.doors import is_wanted
from gentee.client.kernel_door import KernelDoor
from gentee.core.device import DeviceRegistry
from gentee.core.driver import TeeDesc
from gentee.errors import (
    BadParameters,
    BadState,
    GenericError,
    ItemNotFound,
    OutOfMemory,
    ShortBuffer,
    TeeError,
)
from tests.helpers import MinimalOps

UUID = bytes(range(16))
NOP, COPY, INCREMENT, FILL, RETURN, WAIT, RELEASE, SUPPLICANT, ERRNO = range(9)


# Which TEE


@pytest.mark.parametrize(
    ("version", "name", "wanted"),
    [
        ((1, 0, TEE_GEN_CAP_GP), None, True),
        ((1, 0, 0), None, False),
        ((1, 0, TEE_GEN_CAP_GP | TEE_GEN_CAP_PRIVILEGED), None, False),
        ((TEE_IMPL_ID_OPTEE, TEE_OPTEE_CAP_TZ, TEE_GEN_CAP_GP), "optee-tz", True),
        ((TEE_IMPL_ID_OPTEE, 0, TEE_GEN_CAP_GP), "optee-tz", False),
        ((2, TEE_OPTEE_CAP_TZ, TEE_GEN_CAP_GP), "optee-tz", False),
        ((1, 1, TEE_GEN_CAP_GP), "another", False),
    ],
)
def test_which_tee_is_wanted(version: tuple[int, int, int], name: str | None, wanted: bool) -> None:
    assert is_wanted(version, name) is wanted


def test_kernel_door_by_name(registry: DeviceRegistry) -> None:
    for name in ("optee-tz", "teepriv0", "tee7"):
        with pytest.raises(ItemNotFound):
            KernelDoor(registry, name)
    with Context(door=KernelDoor(registry, "tee0")) as context:
        assert context.version == registry.all()[0].version
        assert repr(context) == "<Context of tee0>"


class Refusing(MinimalOps):
    version = (7, 0, TEE_GEN_CAP_GP)

    def open(self, ctx: object) -> None:
        raise OSError(errno.EBUSY, "busy")


def test_kernel_door_of_a_device_that_refuses() -> None:
    registry = DeviceRegistry()
    registry.tee_device_register(TeeDesc("refuses", Refusing(), impl_id=7))
    with pytest.raises(OSError) as error:
        KernelDoor(registry, "tee0")
    assert error.value.errno == errno.EBUSY
    with pytest.raises(ItemNotFound):
        KernelDoor(registry)


def test_device_door_of_what_is_no_tee(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error:
        DeviceDoor("/dev/null")
    assert error.value.errno in (errno.ENOTTY, errno.EINVAL)
    with pytest.raises(FileNotFoundError):
        DeviceDoor(str(tmp_path / "tee0"))


def test_context_says_why_there_is_no_tee(tmp_path: Path) -> None:
    with pytest.raises(ItemNotFound, match="/dev/null: ") as error:
        Context("/dev/null")
    assert error.value.origin == TEEC_ORIGIN_API
    with pytest.raises(ItemNotFound, match=r"no .*tee0"):
        Context(str(tmp_path / "tee0"))


def test_context_takes_one_way_to_its_tee(registry: DeviceRegistry) -> None:
    door = KernelDoor(registry)
    with pytest.raises(TypeError):
        Context("optee-tz", door=door)
    door.close()


# Sessions


@pytest.mark.parametrize("form", [UUID, uuid.UUID(bytes=UUID), str(uuid.UUID(bytes=UUID))])
def test_open_session_takes_each_form_of_a_uuid(
    context: Context, form: bytes | str | uuid.UUID
) -> None:
    with context.open_session(form) as session:
        session.invoke(NOP)
        assert "closed" not in repr(session)
    assert "closed" in repr(session)


@pytest.mark.parametrize("form", [b"short", "not a uuid", str(uuid.UUID(bytes=UUID))[:-2]])
def test_what_is_no_uuid(context: Context, form: bytes | str) -> None:
    with pytest.raises(ValueError):
        context.open_session(form)


def test_open_session_that_the_tee_refuses(context: Context) -> None:
    with pytest.raises(ItemNotFound) as error:
        context.open_session(bytes(16))
    assert error.value.origin == TEEC_ORIGIN_TEE


def test_open_session_takes_parameters(context: Context) -> None:
    value = Value(1, 2, INPUT)
    context.open_session(UUID, value, b"input", bytearray(3), Out(4))
    context.open_session(UUID, operation=Operation(value))
    with pytest.raises(TypeError, match="not both"):
        context.open_session(UUID, value, operation=Operation(value))


def test_logins(context: Context) -> None:
    context.open_session(UUID, login=TEEC_LOGIN_USER)
    context.open_session(UUID, login=TEEC_LOGIN_GROUP, group=os.getegid())
    context.open_session(UUID, login=TEE_LOGIN_REE_KERNEL)


@pytest.mark.parametrize(
    ("login", "group"),
    [(TEEC_LOGIN_GROUP, None), (TEEC_LOGIN_USER, 0), (TEEC_LOGIN_GROUP, 1 << 32)],
)
def test_login_and_group_that_do_not_fit(context: Context, login: int, group: int | None) -> None:
    with pytest.raises(BadParameters) as error:
        context.open_session(UUID, login=login, group=group)
    assert error.value.origin == TEEC_ORIGIN_API


def test_login_that_the_door_refuses(context: Context) -> None:
    with pytest.raises(BadParameters) as error:
        context.open_session(UUID, login=3)
    assert error.value.origin == TEEC_ORIGIN_COMMS
    # EPERM: libteec has no better name for it.
    with pytest.raises(GenericError) as not_a_member:
        context.open_session(UUID, login=TEEC_LOGIN_GROUP, group=0xFFFF_FFFF)
    assert not_a_member.value.origin == TEEC_ORIGIN_COMMS


def test_result_and_origin_of_a_service(session: Session) -> None:
    with pytest.raises(ShortBuffer) as error:
        session.invoke(RETURN, Value(TEE_ERROR_SHORT_BUFFER, TEE_ORIGIN_TRUSTED_APP, INPUT))
    assert error.value.origin == TEE_ORIGIN_TRUSTED_APP
    with pytest.raises(TeeError) as own:
        session.invoke(RETURN, Value(0x1234, 9, INPUT))
    assert (own.value.code, own.value.origin) == (0x1234, 9)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOMEM, OutOfMemory),
        (errno.EINVAL, BadParameters),
        (errno.EIO, GenericError),
        (errno.EBADF, GenericError),
    ],
)
def test_errno_of_a_call_as_libteec_says_it(
    session: Session, number: int, kind: type[TeeError]
) -> None:
    with pytest.raises(kind) as error:
        session.invoke(ERRNO, Value(number, 0, INPUT))
    assert error.value.origin == TEEC_ORIGIN_COMMS
    assert isinstance(error.value.__cause__, OSError)


@pytest.mark.parametrize("command", [-1, 1 << 32])
def test_command_has_32_bits(session: Session, command: int) -> None:
    with pytest.raises(BadParameters) as error:
        session.invoke(command)
    assert error.value.origin == TEEC_ORIGIN_API


def test_closed_session(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(BadState) as error:
        session.invoke(NOP)
    assert error.value.origin == TEEC_ORIGIN_API


def test_session_of_a_tee_that_is_gone(registry: DeviceRegistry) -> None:
    context = Context(door=KernelDoor(registry))
    session = context.open_session(UUID)
    registry.tee_device_unregister(registry.all()[0])
    with pytest.raises(TeeError) as error:
        session.invoke(NOP)
    assert error.value.origin == TEEC_ORIGIN_COMMS
    with pytest.raises(TeeError):
        context.open_session(UUID)
    session.close()
    context.finalize()


# Ends


def test_finalize_ends_what_is_open(registry: DeviceRegistry) -> None:
    context = Context(door=KernelDoor(registry))
    session = context.open_session(UUID)
    memory = SharedMemory.allocate(context, 100)
    context.finalize()
    context.finalize()
    assert "finalized" in repr(context)
    assert "released" in repr(memory)
    uses: list[Callable[[], object]] = [
        lambda: session.invoke(NOP),
        lambda: memory.buffer,
        lambda: context.open_session(UUID),
        lambda: SharedMemory.allocate(context, 1),
        lambda: SharedMemory.register(context, bytearray(1)),
    ]
    for use in uses:
        with pytest.raises(BadState) as error:
            use()
        assert error.value.origin == TEEC_ORIGIN_API


def test_session_is_closed_when_a_result_cannot_be_taken(
    registry: DeviceRegistry, context: Context
) -> None:
    class Broken(Value):
        def end(self, words: list[int], at: int, block: object) -> None:
            raise RuntimeError("no room for results")

    (ctx,) = registry.all()[0].contexts
    with pytest.raises(RuntimeError):
        context.open_session(UUID, Broken())
    assert not ctx.sessions
