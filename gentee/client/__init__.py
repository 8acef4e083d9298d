# SPDX-License-Identifier: BSD-2-Clause
"""The GlobalPlatform TEE Client API 1.0 in Python, over any door to a TEE.

=================================  ===============================================
Client API                         here
=================================  ===============================================
TEEC_InitializeContext             ``Context(name)``
TEEC_FinalizeContext               ``Context.finalize()``, or leaving ``with``
TEEC_OpenSession                   ``Context.open_session(uuid, ...)``
TEEC_CloseSession                  ``Session.close()``, or leaving ``with``
TEEC_InvokeCommand                 ``Session.invoke(command, ...)``
TEEC_RequestCancellation           ``Operation.cancel()``
TEEC_AllocateSharedMemory          ``SharedMemory.allocate(context, size)``
TEEC_RegisterSharedMemory          ``SharedMemory.register(context, buffer)``
TEEC_ReleaseSharedMemory           ``SharedMemory.release()``, or leaving ``with``
TEEC_Result and its origin         :class:`gentee.errors.TeeError`
=================================  ===============================================

and what <gentee/tee.h> has besides: ``Context.task``, ``load``, ``services``, ``find``, ``map``,
and ``SharedMemory.free``.
"""

from gentee.abi.gp import (
    TEEC_LOGIN_APPLICATION,
    TEEC_LOGIN_GROUP,
    TEEC_LOGIN_GROUP_APPLICATION,
    TEEC_LOGIN_PUBLIC,
    TEEC_LOGIN_USER,
    TEEC_LOGIN_USER_APPLICATION,
)
from gentee.client.context import Context
from gentee.client.device_door import DeviceDoor
from gentee.client.doors import Door
from gentee.client.memory import INOUT, INPUT, OUTPUT, SharedMemory
from gentee.client.operation import Operation
from gentee.client.params import MemRef, Out, Parameter, TempRef, Value
from gentee.client.services import ServiceInfo
from gentee.client.session import Session
from gentee.errors import TeeError

# KernelDoor is not among them: gentee.client.kernel_door brings the whole generic driver along,
# which a client of a device file need not load.
__all__ = [
    "Context",
    "Session",
    "Operation",
    "SharedMemory",
    "Parameter",
    "Value",
    "TempRef",
    "MemRef",
    "Out",
    "ServiceInfo",
    "INPUT",
    "OUTPUT",
    "INOUT",
    "TEEC_LOGIN_PUBLIC",
    "TEEC_LOGIN_USER",
    "TEEC_LOGIN_GROUP",
    "TEEC_LOGIN_APPLICATION",
    "TEEC_LOGIN_USER_APPLICATION",
    "TEEC_LOGIN_GROUP_APPLICATION",
    "Door",
    "DeviceDoor",
    "TeeError",
]
