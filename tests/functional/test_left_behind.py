# SPDX-License-Identifier: BSD-2-Clause
"""Programs that outlive their gentee run can go on."""

import os
from pathlib import Path

from tests.functional.conftest import GenteeRun

SCRIPT = """
exec </dev/null >/dev/null 2>&1
(read line <"$1"; cat "$2" >"$3.new"; mv "$3.new" "$3"; echo "$line" >"$4") &
"""


def test_files_can_be_opened_afterwards(gentee_run: GenteeRun, way: str, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    for fifo in (go, done):
        os.mkfifo(fifo)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_text("still readable")
    names = [str(path) for path in (go, source, copy, done)]
    result = gentee_run(["sh", "-c", SCRIPT, "sh", *names], way=way)
    assert result.returncode == 0
    go.write_text("go on\n")  # gentee is gone; the program in the background is not
    assert done.read_text() == "go on\n"
    assert copy.read_text() == "still readable"
