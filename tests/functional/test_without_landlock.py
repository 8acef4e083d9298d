# SPDX-License-Identifier: BSD-2-Clause
"""Where the kernel has no Landlock: services are held in all the same, and people are told."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Below a filter that answers ENOSYS to Landlock's system calls, as an older kernel does.
WITHOUT = """
import errno, os, struct, sys
from gentee.linux import arch
from gentee.linux.libc import PR_SET_NO_NEW_PRIVS, prctl
from gentee.linux.seccomp import PreparedFilter

LD, JEQ, JGE, RET = 0x20, 0x15, 0x35, 0x06
native = arch.ARCHES[0]
first = arch.SYS[native]["landlock_create_ruleset"]
program = [
    (LD, 0, 0, 4),
    (JEQ, 0, 4, native),
    (LD, 0, 0, 0),
    (JGE, 0, 2, first),
    (JGE, 1, 0, first + 3),
    (RET, 0, 0, 0x00050000 | errno.ENOSYS),
    (RET, 0, 0, 0x7FFF0000),
]
prctl(PR_SET_NO_NEW_PRIVS, 1)
PreparedFilter(b"".join(struct.pack("<HBBI", *step) for step in program)).install()
os.execv(sys.executable, [sys.executable, "-m", "gentee", *sys.argv[1:]])
"""

SERVICE = """
import os

from gentee.ta import TrustedApplication


class Opener(TrustedApplication):
    uuid = "6d1f6f3c-7f7c-4d44-9a5b-000000000001"
    name = "opener"

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        try:
            os.close(os.open("/etc/passwd", os.O_RDONLY))
        except PermissionError:
            params[0].a = 1
"""


def gentee(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


def test_a_service_is_held_in(tmp_path: Path) -> None:
    (tmp_path / "opener.py").write_text(SERVICE)
    finished = gentee("task", "--ta-dir", tmp_path, "opener", "0", "value-out")
    assert finished.stdout.startswith("0: value 1 ("), finished
    assert finished.stderr.count("confined without Landlock") == 1


def test_the_doctor_says_so() -> None:
    finished = gentee("doctor")
    (line,) = (line for line in finished.stdout.splitlines() if "services, Landlock" in line)
    assert "ABI" not in line
    (line,) = (line for line in finished.stdout.splitlines() if "services, calls" in line)
    assert "ok" in line


def test_nobody_is_bothered_without_a_service() -> None:
    finished = gentee("run", "--", "true")
    assert (finished.returncode, finished.stderr) == (0, "")
