# SPDX-License-Identifier: BSD-2-Clause
"""The warm parent of OP-TEE's TAs: it has the loader, and engines that are ready to be used.

It is a process of its own, started when the first such TA is opened: Unicorn takes tens of
milliseconds to come, and nothing of it belongs into the processes of Python services.
"""

from gentee import crypto
from gentee.ta import user_process
from gentee.ta.warm_parent import fork_for


def main(socket_fd: int) -> None:
    """Serve the socket to its end."""
    crypto.warm_up()
    user_process.make_engines()
    fork_for(socket_fd, "gentee-warm-arm", user_process.serve)
