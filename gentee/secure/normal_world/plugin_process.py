# SPDX-License-Identifier: BSD-2-Clause
"""The process of one plugin: the other end of :mod:`gentee.secure.normal_world.plugins`.

It does in the normal world what its plugin does, with the rights of the user who runs gentee and no
further ones (no_new_privs), no terminal to read from, none of gentee's descriptors and an empty
environment. It has no TEE devices of gentee's either.

The first packet says what to load; the answer is what it is, or why not. Each further one is a
call, with two descriptors: where the result goes, and memory. A call has a thread of its own, so a
plugin is called from several at once, as in tee-supplicant.
"""

import importlib
import json
import mmap
import os
import signal
import socket
import sys
import threading
import traceback
from struct import Struct

from gentee.abi.gp import TEE_ERROR_GENERIC, TEE_SUCCESS
from gentee.errors import TeeError
from gentee.linux.libc import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    prctl,
    set_process_name,
)
from gentee.secure.service import format_uuid, parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.linux.plugin_method import CPlugin

CALL = Struct("<IIQ")  # command, sub-command, bytes of memory
RESULT = Struct("<IQ")  # TEEC_Result, how many bytes count
MAX_HELLO = 1 << 16


class PythonPlugin:
    """A plugin in Python: an object, or a class whose object is made without arguments.

    It has ``name``, ``uuid`` as text and ``invoke(command, sub_command, data)``, perhaps ``init``.
    """

    def __init__(self, value: str) -> None:
        module, _, path = value.partition(":")
        found: Any = importlib.import_module(module)
        for name in filter(None, path.split(".")):
            found = getattr(found, name)
        self._plugin = found() if isinstance(found, type) else found
        self.name = str(self._plugin.name)
        self.uuid = parse_uuid(self._plugin.uuid)

    def init(self) -> int:
        """Its ``init``, if it has one. What that raises is why the plugin is not there."""
        init = getattr(self._plugin, "init", None)
        if init is not None:
            init()
        return TEE_SUCCESS

    def invoke(self, command: int, sub_command: int, data: memoryview) -> tuple[int, int]:
        """Its ``invoke``: how many bytes of ``data`` count, None for none; TeeError fails."""
        try:
            return TEE_SUCCESS, int(self._plugin.invoke(command, sub_command, data) or 0)
        except TeeError as error:
            return error.code, 0


def main(socket_fd: int, parent: int) -> None:
    """Load, and serve until the other end is closed."""
    # Of the thread that started this process, which lives as long as its TEE wants it.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    set_process_name("gentee-plugin")
    sock = socket.socket(fileno=socket_fd)
    sock.set_inheritable(False)
    wanted = json.loads(sock.recv(MAX_HELLO))
    try:
        plugin = _load(wanted)
        ret = plugin.init()
        if ret != TEE_SUCCESS:
            raise ValueError(f"its init says {ret:#x}")
    except Exception as error:  # somebody else's code: anything can come out of it
        text = str(error) if isinstance(error, OSError | ValueError) else repr(error)
        sock.send(json.dumps({"error": text[:1000]}).encode())
        return
    hello = {"name": plugin.name[:100], "uuid": format_uuid(plugin.uuid)}
    sock.send(json.dumps(hello).encode())
    while True:
        message, fds, _flags, _address = socket.recv_fds(sock, CALL.size, 2)
        if not message:
            # At once: a thread of the plugin's may be at work for ever.
            os._exit(0)
        reply, memory = fds
        command, sub_command, size = CALL.unpack(message)
        threading.Thread(
            target=_call, args=(plugin, reply, memory, command, sub_command, size), daemon=True
        ).start()


def _load(wanted: "dict[str, Any]") -> "CPlugin | PythonPlugin":
    if wanted["language"] == "python":
        sys.path[:] = wanted["path"]
        return PythonPlugin(wanted["what"])
    from gentee.linux.plugin_method import CPlugin

    return CPlugin(wanted["what"])


def _call(
    plugin: "CPlugin | PythonPlugin", reply: int, memory: int, command: int, sub_command: int,
    size: int,
) -> None:  # fmt: skip
    mapped = mmap.mmap(memory, size) if size else None
    os.close(memory)
    data = memoryview(mapped if mapped is not None else bytearray())
    try:
        ret, length = plugin.invoke(command, sub_command, data)
        result = RESULT.pack(ret & 0xFFFF_FFFF, length)
    except Exception:  # of a plugin in Python: its author sees where
        traceback.print_exc()
        result = RESULT.pack(TEE_ERROR_GENERIC, 0)
    try:
        os.write(reply, result)
    except OSError:  # nobody waits for it any more
        pass
    os.close(reply)
