# SPDX-License-Identifier: BSD-2-Clause
"""The warm parent: a small interpreter, ready, without secrets or threads, that forks services.

A fresh interpreter takes tens of milliseconds, a fork of this one about one. Its heap is frozen, so
that a child's garbage collector does not touch, and thereby copy, the pages that they share.

Messages, one packet each: ``S`` token: fork, answered by ``P`` pid token; ``R`` pid: collect it.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable
from struct import Struct

from gentee.linux.libc import PR_SET_PDEATHSIG, prctl, set_process_name
from gentee.ta import confine, loading, runtime

_SPAWN = Struct("<cQ")
_REAP = Struct("<ci")
_SPAWNED = Struct("<ciQ")


def main(socket_fd: int) -> None:
    """Serve the socket to its end."""
    runtime.prepare()
    loading.rehearse()
    fork_for(socket_fd, "gentee-warm", _serve)


def _serve(token: int) -> None:
    loading.rehearse()
    runtime.serve(token)


def fork_for(socket_fd: int, name: str, serve: Callable[[int], None]) -> None:
    """Restrict this process, which is ready, and fork as the socket says, to its end.

    :param serve: what a new process does with its token. It does not return.
    """
    sock = socket.socket(fileno=socket_fd)
    sock.set_inheritable(False)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    set_process_name(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.restrict(sock.fileno())
    gc.collect()
    gc.freeze()
    while True:
        message = sock.recv(64)
        if not message:
            os._exit(0)
        if message[:1] == b"S":
            _, token = _SPAWN.unpack(message)
            _spawn(sock, token, serve)
        elif message[:1] == b"R":
            _, pid = _REAP.unpack(message)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:  # asked twice
                pass


def _spawn(sock: socket.socket, token: int, serve: Callable[[int], None]) -> None:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or 1)
    if pid:
        try:
            sock.send(_SPAWNED.pack(b"P", pid, token))
        except BrokenPipeError:  # gentee has ended, and so does this, and its child with it
            os._exit(0)
        return
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        sock.close()
        serve(token)
    finally:
        os._exit(1)
