# SPDX-License-Identifier: BSD-2-Clause
"""A warm parent that forks children which do nothing: what a service's process costs at least.

bare_fork.py: for each line on stdin, a number N, fork N children one after the other, each waited
for, and write the nanoseconds that one took. It is as large as the warm parent, and confined as it
is; each fork is asked for and answered through a socket, as there.
"""

import gc
import os
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gentee.ta import confine, loading, runtime


def warm_parent(sock: socket.socket) -> None:
    """As gentee.ta.warm_parent.main(), but for what the children do."""
    runtime.prepare()
    loading.rehearse()
    confine.restrict(sock.fileno())
    gc.collect()
    gc.freeze()
    while sock.recv(64):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        sock.send(b"P")
    os._exit(0)


def main() -> None:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        mine.close()
        try:
            warm_parent(theirs)
        finally:
            os._exit(1)
    theirs.close()
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter_ns()
        for _ in range(count):
            mine.send(b"S")
            if not mine.recv(64):
                sys.exit("the warm parent ended")
        print((time.perf_counter_ns() - begin) / count, flush=True)


if __name__ == "__main__":
    main()
