# SPDX-License-Identifier: BSD-2-Clause
"""gentee.device.ta_files: which opens mean a TA's file, and what they get."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.device import ta_files
from gentee.device.client_memory import TaskCredentials
from gentee.linux.task import Process, Task

NAME = "c3f6e2c0-3548-11e1-b86c-0800200c9a66.ta"


@pytest.fixture
def task() -> Iterator[Task]:
    process = Process(os.getpid())
    task = Task(os.getpid(), process)
    yield task
    task.close()
    process.close()


def test_the_name_of_a_file() -> None:
    assert ta_files.name_of(b"/lib/optee_armtz/" + NAME.encode()) == NAME


@pytest.mark.parametrize(
    "path",
    [
        b"", NAME.encode(), b"/lib/optee_armtz/", b"/lib/optee_armtz/.ta",
        b"/lib/optee_armtz//" + NAME.encode(), b"/lib/optee_armtz/../" + NAME.encode(),
        b"/lib/optee_armtz/" + NAME.upper().encode(), b"/lib/optee_armtz/" + NAME[:-3].encode(),
        b"/lib/optee_armtz/g" + NAME[1:].encode(), b"/lib/optee_armtz/0" + NAME.encode(),
        b"/lib/optee_armtz/" + NAME.replace("-", "/", 1).encode(), b"/etc/" + NAME.encode(),
        b"/lib/optee_armtz/\xff" + NAME[1:].encode(),
    ],
)  # fmt: skip
def test_other_paths(path: bytes) -> None:
    assert ta_files.name_of(path) is None


def test_the_first_folder_that_has_it(task: Task, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("none", "folder", "first", "second")]
    for folder in folders[1:]:
        folder.mkdir()
    (folders[1] / NAME).mkdir()  # no file
    (folders[2] / NAME).write_bytes(b"first")
    (folders[3] / NAME).write_bytes(b"second")
    fd = ta_files.open_ta_file([str(folder) for folder in folders], task, NAME)
    with open(fd, "rb") as file:
        assert file.read() == b"first"
    with pytest.raises(FileNotFoundError):
        ta_files.open_ta_file([str(folders[0])], task, NAME)


def test_a_machine_that_has_it_itself(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(b"ours")
    monkeypatch.setattr(ta_files, "FOLDER", os.fsencode(tmp_path))
    with pytest.raises(FileExistsError):
        ta_files.open_ta_file([str(tmp_path)], task, NAME)


def test_another_user(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"ours")
    monkeypatch.setattr(TaskCredentials, "euid", lambda self: os.geteuid() + 1)
    with pytest.raises(PermissionError):
        ta_files.open_ta_file([str(tmp_path)], task, NAME)
