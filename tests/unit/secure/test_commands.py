# SPDX-License-Identifier: BSD-2-Clause
"""Commands: what a service can be given at all. The rest is seen in tests/functional."""

from collections.abc import Iterator

import pytest

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_META,
    TEE_IOCTL_PARAM_ATTR_TYPE_NONE,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.core.calls import CallArg
from gentee.core.context import TeeContext
from gentee.core.params import TeeParam
from gentee.errors import TeeError
from gentee.secure.commands import check_gp_params
from tests.helpers import Client, make_device

NONE = TEE_IOCTL_PARAM_ATTR_TYPE_NONE
VALUE = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(make_device()) as client:
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
