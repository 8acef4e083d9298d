# SPDX-License-Identifier: BSD-2-Clause
"""Clients that attack, under ``gentee run``, and a look at gentee from outside."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.functional.conftest import (
    Collection,
    GenteeRun,
    collections,
    compile_client,
    gentee_run,
    pytest_configure,
    pytest_generate_tests,
    run_case,
    way,
)
from tests.outside import Gentee, check_messages

__all__ = [
    "GenteeRun",
    "StartGentee",
    "attack",
    "collections",
    "compile_client",
    "gentee_run",
    "pytest_configure",
    "pytest_generate_tests",
    "run_case",
    "start_gentee",
    "way",
]


@pytest.fixture
def attack(
    request: pytest.FixtureRequest,
    run_case: Callable[[], None],
    way: str,
    collections: dict[tuple[object, ...], Collection],
) -> Callable[[], None]:
    """``run_case`` for attacks: gentee must not have found a bug in itself either."""

    def check() -> None:
        run_case()
        mark = request.node.get_closest_marker("client")
        finished = collections[(way, *mark.args)].finished
        check_messages(finished.stderr)

    return check


class StartGentee(Protocol):
    """The type of :func:`start_gentee`."""

    def __call__(
        self,
        *options: str | Path,
        way: str = "auto",
        run: Sequence[str] = (),
        descriptors: int | None = None,
    ) -> Gentee: ...


@pytest.fixture
def start_gentee(tmp_path: Path) -> Iterator[StartGentee]:
    """``start_gentee(*options)``: a gentee whose program is a shell that the test speaks to.

    When the test is over gentee must still be alive, must end with its shell, and must not have
    found a bug in itself.
    """
    started: list[Gentee] = []

    def start(
        *options: str | Path,
        way: str = "auto",
        run: Sequence[str] = (),
        descriptors: int | None = None,
    ) -> Gentee:
        messages = tmp_path / f"messages-{len(started)}"
        options = (*options, "--device-way", way)
        gentee = Gentee(messages, options, run=run, descriptors=descriptors)
        started.append(gentee)
        return gentee

    try:
        yield start
        for gentee in started:
            gentee.end()
            gentee.check_messages()
    finally:
        for gentee in started:
            gentee.kill()
