# SPDX-License-Identifier: BSD-2-Clause
"""A service has no files, no network, no other processes: each try is refused."""

import os
from pathlib import Path

import pytest

from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]

_TRIES = {
    "read a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "read by a folder": "os.open('.', os.O_PATH)",
    "list a folder": "os.listdir('/')",
    "write a file": "os.open('/tmp/x', os.O_WRONLY | os.O_CREAT)",
    "look at a file": "os.stat('/etc/passwd')",
    "link": "os.symlink('/etc/passwd', '/tmp/x')",
    "remove": "os.unlink('/tmp/x')",
    "its own process folder": "os.open('/proc/self/mem', os.O_RDWR)",
    "its parent's memory": "os.open(f'/proc/{os.getppid()}/mem', os.O_RDONLY)",
    "list processes": "os.listdir('/proc')",
    "change the folder": "os.chdir('/')",
    "make a file in memory": "os.memfd_create('x')",
    "make a pipe": "os.pipe()",
    "make an event": "os.eventfd(0)",
    "make a TCP socket": "socket.socket(socket.AF_INET)",
    "make a UNIX socket": "socket.socket(socket.AF_UNIX)",
    "make a netlink socket": "socket.socket(socket.AF_NETLINK)",
    "make a pair of sockets": "socket.socketpair()",
    "fork": "os.fork()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "spawn a program": "os.posix_spawn('/bin/true', ['true'], {})",
    "run a shell": "subprocess.run(['true'])",
    "start a thread": "threading.Thread(target=print).start()",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "signal all": "os.kill(-1, 0)",
    "signal itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "hold a process": "os.pidfd_open(os.getppid())",
    "change its user": "os.setuid(12345)",
    "change its group": "os.setgid(12345)",
    "leave its session": "os.setsid()",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))",
    "change its priority": "os.nice(-1)",
    "change its CPUs": "os.sched_setaffinity(0, [0])",
    "read its descriptors": "os.read(0, 1)",
    "lock a file": "fcntl.lockf(1, fcntl.LOCK_EX)",
    "take signals of a file": "fcntl.fcntl(1, fcntl.F_SETOWN, os.getpid())",
    "another ioctl": "fcntl.ioctl(0, 0x5401, bytes(64))",
    "its channel on another descriptor": "fcntl.ioctl(1, 0xA4F1)",
    "a client's ioctl": "fcntl.ioctl(0, 0x800CA400, bytearray(12))",
    "import what it has not named": "__import__('wave')",
    "load a library": "__import__('ctypes').CDLL('libthread_db.so.1')",
    "map executable memory": "mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, 7)",
}

_ATTACK = """
    def attack(self, command, params):
        import ctypes, fcntl, mmap, os, resource, signal, socket, subprocess, threading
        for what, code in TRIES.items():
            try:
                eval(code)
            except (OSError, ImportError, RuntimeError, ValueError):
                continue
            IMSG(what)
        IMSG(f"{len(os.environ)} in the environment")

TRIES = """


def test_what_it_tries(captive: MakeCaptive) -> None:
    hostile = captive(_ATTACK + repr(_TRIES) + "\n")
    hostile.session.invoke(1)
    assert hostile.said() == ["0 in the environment"]
    hostile.others_go_on()


def test_it_is_locked_before_its_code_runs(captive: MakeCaptive) -> None:
    """In the module itself, outside of any function."""
    hostile = captive(
        """
    def attack(self, command, params):
        IMSG(FOUND)

try:
    os.listdir("/")
    FOUND = "files"
except PermissionError as error:
    FOUND = error.strerror
"""
    )
    hostile.session.invoke(1)
    assert hostile.said() == ["Operation not permitted"]


def test_nobody_of_its_user_looks_into_it(captive: MakeCaptive) -> None:
    """Not dumpable, no new privileges, two filters more than gentee's, no capability."""
    hostile = captive("\n    def attack(self, command, params): pass\n")
    (tee,) = hostile.tee.driver._tees
    for instance in tee.instances():
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{instance.pid}/status").read_text().splitlines()
        )
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert int(status["Seccomp_filters"]) >= 3
        for kind in ("Inh", "Prm", "Eff", "Amb"):
            assert int(status[f"Cap{kind}"], 16) == 0
        assert Path(f"/proc/{instance.pid}/mem").stat().st_uid == 0  # root's, whoever's it is
        if os.getuid():
            with pytest.raises(PermissionError):
                os.open(f"/proc/{instance.pid}/mem", os.O_RDONLY)
