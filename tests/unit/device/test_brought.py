# SPDX-License-Identifier: BSD-2-Clause
"""gentee.device.brought: what a joiner may answer with."""

import os
import socket
from pathlib import Path

import pytest

from gentee.device.brought import Bringer


@pytest.mark.parametrize(
    ("path", "name", "is_taken"),
    [
        ("/proc/self/mem", None, True),
        ("/proc/self/maps", None, False),
        ("file", None, False),
        ("file", "/proc/1/mem", False),  # in a mount namespace of the joiner's own
    ],
)
def test_memory_is_a_file_of_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str | None, is_taken: bool
) -> None:
    (tmp_path / "file").write_bytes(b"memory")
    fd = os.open(tmp_path / path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock, monkeypatch.context() as patch:
        bringer = Bringer(sock)
        patch.setattr(bringer, "ask_fd", lambda *_: fd)
        if name is not None:
            patch.setattr(os, "readlink", lambda *_: name)
        if is_taken:
            assert bringer.open_memory(7) == fd
            os.close(fd)
            return
        with pytest.raises(PermissionError):
            bringer.open_memory(7)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
