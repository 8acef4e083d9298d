# SPDX-License-Identifier: BSD-2-Clause
"""Which results a function gives, and which ones are panics.

OP-TEE's libutee passes few results on to a TA: every other one that the TEE gives it is a panic
with that result as its code. Where it calls ``TEE_Panic(0)``, for plain misuse, there is a code
here.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_BAD_STATE
from gentee.errors import TaPanic, TeeError

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def results(*codes: int) -> Callable[[Callable[_Args, _Result]], Callable[_Args, _Result]]:
    """A function of the API that raises a TeeError with one of ``codes``, and no other."""

    def decorate(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
        name = function.__name__

        @wraps(function)
        def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
            try:
                return function(*args, **kwargs)
            except TaPanic as panic:
                raise TaPanic(panic.code, f"{name}: {panic.detail}") from None
            except TeeError as error:
                if error.code in codes:
                    raise
                raise TaPanic(error.code, f"{name}: {error.detail}") from None

        return call

    return decorate


def bad_parameters(detail: str) -> TaPanic:
    """The panic of an argument that cannot be."""
    return TaPanic(TEE_ERROR_BAD_PARAMETERS, detail)


def bad_state(detail: str) -> TaPanic:
    """The panic of a function that cannot be called now."""
    return TaPanic(TEE_ERROR_BAD_STATE, detail)
