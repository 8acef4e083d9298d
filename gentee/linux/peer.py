# SPDX-License-Identifier: BSD-2-Clause
"""Who is at the other end of a Unix socket, socket(7) and unix(7): the kernel says so."""

import errno
import socket
from struct import Struct

_UCRED = Struct("<iII")  # pid uid gid
_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, since Linux 4.13
_MANY_GROUPS = 65536  # NGROUPS_MAX


class Peer:
    """Credentials as they were when the peer connected (or, of a listener, when it listened).

    ``pid`` is 0 where the peer is not visible in this PID namespace. ``groups`` are the
    supplementary ones; ids that this user namespace does not know are 65534.
    """

    __slots__ = ("gid", "groups", "pid", "uid")

    def __init__(self, sock: socket.socket) -> None:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.pid, self.uid, self.gid = _UCRED.unpack(data)
        self.groups = _peer_groups(sock)

    def in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


def _peer_groups(sock: socket.socket) -> frozenset[int]:
    # Python gives at most 1024 bytes. Who is in more groups than that is known by the first 256.
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError as error:
        if error.errno not in (errno.ERANGE, errno.ENOPROTOOPT, errno.ENODATA):
            raise
        return frozenset()
    return frozenset(memoryview(data).cast("I"))
