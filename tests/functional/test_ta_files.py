# SPDX-License-Identifier: BSD-2-Clause
"""Clients that read a TA's file find it where a board has it, in the way that traps opens."""

import sys
from pathlib import Path

import pytest

from tests.functional.conftest import GenteeRun

FOLDER = Path("/lib/optee_armtz")
NAME = "c3f6e2c0-3548-11e1-b86c-0800200c9a66.ta"
OTHER = "c3f6e2c0-3548-11e1-b86c-0800200c9a67.ta"

READER = """
import os, sys
folder = "/lib/optee_armtz/"
for name, flags in ((sys.argv[1], os.O_RDONLY), (sys.argv[2], os.O_RDONLY),
                    (sys.argv[1], os.O_RDWR), (sys.argv[1], os.O_WRONLY | os.O_CREAT),
                    ("../optee_armtz/" + sys.argv[1], os.O_RDONLY)):
    try:
        fd = os.open(folder + name, flags)
        print(os.read(fd, 100).decode(), os.get_inheritable(fd))
        os.close(fd)
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.skipif(FOLDER.exists(), reason="this machine has TAs of its own")
def test_reading_one(gentee_run: GenteeRun, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"a TA")
    finished = gentee_run(
        [sys.executable, "-c", READER, NAME, OTHER],
        options=["--ephemeral", "--quiet", "--ta-dir", str(tmp_path)],
        way="open",
    )
    nothing = "No such file or directory"
    assert finished.stdout.splitlines() == ["a TA False", *[nothing] * 4], finished.stderr
    assert not FOLDER.exists()
