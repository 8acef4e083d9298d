# SPDX-License-Identifier: BSD-2-Clause
"""Processes: threads, children of all kinds, exec, orphans."""

from collections.abc import Callable

import pytest


@pytest.mark.client("processes.c", "--quiet")
def test_processes(run_case: Callable[[], None]) -> None:
    run_case()
