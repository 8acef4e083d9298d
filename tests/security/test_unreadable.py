# SPDX-License-Identifier: BSD-2-Clause
"""Clients that gentee may not read: EFAULT for them, one plain line for their user."""

import os
import shutil
from pathlib import Path

import pytest

from tests.functional.conftest import CompileClient, GenteeRun

pytestmark = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everybody")


@pytest.mark.parametrize("case", ["from_the_start", "for_a_while"])
def test_not_dumpable(
    gentee_run: GenteeRun, compile_client: CompileClient, way: str, case: str
) -> None:
    program = compile_client("hostile_unreadable.c")
    finished = gentee_run([program, case], options=["--driver", "loopback"], way=way)
    assert finished.stdout == f"ok {case}\n", finished.stderr
    assert finished.returncode == 0
    check_messages(finished.stderr, told=(case == "for_a_while") == (way == "open"))


def test_a_program_that_only_can_be_run(
    gentee_run: GenteeRun, compile_client: CompileClient, way: str, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(compile_client("hostile_unreadable.c"), program)
    program.chmod(0o111)
    # By a shell: the very first program of a namespace is run with rights over its files.
    finished = gentee_run(
        ["sh", "-c", f"{program} not_readable; exit $?"],
        options=["--driver", "loopback"],
        way=way,
    )
    assert finished.stdout == "ok not_readable\n", finished.stderr
    check_messages(finished.stderr, told=way == "namespace")


def check_messages(messages: str, *, told: bool) -> None:
    lines = messages.splitlines()
    assert len(lines) == (1 if told else 0), messages
    if told:
        assert "cannot be read" in lines[0]
        assert "gentee doctor" in lines[0]
