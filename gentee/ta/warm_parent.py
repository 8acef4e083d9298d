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
from struct import Struct

from gentee.linux.libc import PR_SET_PDEATHSIG, prctl, set_process_name
from gentee.ta import confine, loading, runtime

_SPAWN = Struct("<cQ")
_REAP = Struct("<ci")
_SPAWNED = Struct("<ciQ")


def main(socket_fd: int) -> None:
    """Serve the socket to its end."""
    sock = socket.socket(fileno=socket_fd)
    sock.set_inheritable(False)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    set_process_name("gentee-warm")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runtime.prepare()
    loading.rehearse()
    confine.restrict(sock.fileno())
    gc.collect()
    gc.freeze()
    while True:
        message = sock.recv(64)
        if not message:
            os._exit(0)
        if message[:1] == b"S":
            _, token = _SPAWN.unpack(message)
            _spawn(sock, token)
        elif message[:1] == b"R":
            _, pid = _REAP.unpack(message)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:  # asked twice
                pass


def _spawn(sock: socket.socket, token: int) -> None:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        sock.send(_SPAWNED.pack(b"P", -(error.errno or 1), token))
        return
    if pid:
        sock.send(_SPAWNED.pack(b"P", pid, token))
        return
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        sock.close()
        loading.rehearse()
        runtime.serve(token)
    finally:
        os._exit(1)
