# SPDX-License-Identifier: BSD-2-Clause
"""Plugins of OP-TEE's tee-supplicant: shared libraries with a ``struct plugin_method``
(optee_client, tee_plugin_method.h).

Loading one runs its code. Only a process that has nothing to lose does so.
"""

import ctypes
from struct import Struct

_UUID = Struct("=IHH8s")  # TEEC_UUID, as the machine has it
_OCTETS = Struct(">IHH8s")

_Init = ctypes.CFUNCTYPE(ctypes.c_uint32)
_Invoke = ctypes.CFUNCTYPE(
    ctypes.c_uint32,
    ctypes.c_uint,
    ctypes.c_uint,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
)


class _PluginMethod(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("uuid", ctypes.c_uint8 * _UUID.size),
        ("init", ctypes.c_void_p),
        ("invoke", ctypes.c_void_p),
    )


class CPlugin:
    """A plugin in C. Its functions are called as tee-supplicant does, from several threads.

    :ivar uuid: 16 bytes in the order of the text.
    :raises OSError: it is no shared library, or one that cannot be loaded.
    :raises ValueError: it has no usable ``plugin_method``.
    """

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        method = _PluginMethod.in_dll(self._library, "plugin_method")
        if not method.name or not method.invoke:
            raise ValueError("its plugin_method has no name or no invoke")
        self.name = method.name.decode("utf-8", "replace")
        self.uuid = _OCTETS.pack(*_UUID.unpack(bytes(method.uuid)))
        self._init = _Init(method.init) if method.init else None
        self._invoke = _Invoke(method.invoke)

    def init(self) -> int:
        """Its ``init``, if it has one: a TEEC_Result."""
        return self._init() if self._init is not None else 0

    def invoke(self, command: int, sub_command: int, data: memoryview) -> tuple[int, int]:
        """Its ``invoke``; TEEC_Result, and how many bytes of ``data`` it says it has put there."""
        length = ctypes.c_size_t(0)
        address = None
        if len(data):
            first = ctypes.c_char.from_buffer(data)
            address = ctypes.addressof(first)
        ret = self._invoke(command, sub_command, address, len(data), ctypes.byref(length))
        return ret, length.value
