# SPDX-License-Identifier: BSD-2-Clause
"""Commands: what a service can be given at all. The rest is seen in tests/functional."""

from collections.abc import Iterator

import pytest

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_META,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_NONE,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.abi.ta_channel import TA_INVOKE
from gentee.core.calls import CallArg
from gentee.core.context import TeeContext
from gentee.core.params import TeeParam
from gentee.errors import TeeError
from gentee.secure.commands import CallCommand, Command, check_gp_params
from tests.helpers import Client, OwnMemory, make_device
from tests.unit.core.test_shm import RegisterOps

NONE = TEE_IOCTL_PARAM_ATTR_TYPE_NONE
VALUE = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(make_device(RegisterOps())) as client:
        yield client


def arg_of(ctx: TeeContext, *params: TeeParam) -> CallArg:
    return CallArg(ctx, 1, 0, list(params), lambda _arg: None)


@pytest.mark.parametrize("kinds", [[], [VALUE], [NONE, VALUE], [VALUE] * 4, [VALUE] * 4 + [NONE]])
def test_up_to_four_parameters(client: Client, kinds: list[int]) -> None:
    arg = arg_of(client.ctx, *[TeeParam(kind) for kind in kinds])
    check_gp_params(arg)
    assert [param.attr for param in arg.params] == kinds[:4]


@pytest.mark.parametrize(
    "kinds",
    [
        [VALUE] * 5,
        [NONE] * 4 + [VALUE],
        [NONE] * 10 + [VALUE],
        [VALUE | TEE_IOCTL_PARAM_ATTR_META],
        [NONE, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT | TEE_IOCTL_PARAM_ATTR_META],
        [NONE | TEE_IOCTL_PARAM_ATTR_META],
    ],
)
def test_what_a_service_cannot_get(client: Client, kinds: list[int]) -> None:
    arg = arg_of(client.ctx, *[TeeParam(kind) for kind in kinds])
    with pytest.raises(TeeError) as caught:
        check_gp_params(arg)
    assert (caught.value.code, caught.value.origin) == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)


def test_bytes_to_copy(client: Client) -> None:
    """By them it is decided which thread does it."""
    assert Command(TA_INVOKE).bulk() == 0
    allocated = client.shm_alloc(1 << 20)
    memory = OwnMemory(bytes(5000))
    registered = client.shm_register(memory, 5000)
    kind = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT
    for params, size in (
        ([], 0),
        ([TeeParam(VALUE, 1, 2)], 0),
        ([TeeParam(kind)], 0),
        ([TeeParam(kind, 0, 1 << 20, shm=allocated)], 0),
        ([TeeParam(kind, 10, 4000, shm=registered)], 4000),
        ([TeeParam(kind, 0, 0, shm=registered)], 0),
    ):
        command = CallCommand(TA_INVOKE, arg_of(client.ctx, *params), 1)
        assert command.bulk() == size
        assert (command.layout is not None) == any(p.shm is registered for p in params)
    registered.put()
    allocated.put()
