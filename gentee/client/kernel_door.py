# SPDX-License-Identifier: BSD-2-Clause
"""The door of a program that hosts the TEE itself: no device file, no system call.

Made of :mod:`gentee.device.kernel`. Memory is shared as it is through a device: allocated pages are
the driver's own, registered buffers are copied by whoever serves a call.
"""

import errno
from struct import Struct
from typing import TYPE_CHECKING

from gentee.abi.gp import TEE_ORIGIN_TEE, TEE_SUCCESS, TEEC_ORIGIN_API
from gentee.client.doors import NUM_WORDS, PARAM_WORDS, Door, DoorMemory, is_wanted
from gentee.core.context import teedev_open
from gentee.core.device import DeviceRegistry
from gentee.core.params import TeeParam, params_from_user, params_put
from gentee.core.shm import TeeShm
from gentee.device import kernel, kernel_ext
from gentee.errors import ItemNotFound, TeeError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_WORDS = Struct(f"<{NUM_WORDS}Q")
_U64 = 0xFFFF_FFFF_FFFF_FFFF


class KernelDoor(Door):
    """A context of a device that this program hosts.

    Logins other than PUBLIC identify this program; REE_KERNEL is allowed.

    :param registry: the program's devices.
    :param name: None, ``optee-tz``, or the name of one device in the registry, such as ``tee1``.
    :raises ItemNotFound: there is none that suits (origin API).
    :raises OSError: as the device fails that was meant.
    """

    def __init__(self, registry: DeviceRegistry, name: str | None = None) -> None:
        teedev = registry.get(name) if name is not None else None
        if teedev is not None:
            if not is_wanted(teedev.version, None):
                raise ItemNotFound(f"{name}: another kind of TEE", TEEC_ORIGIN_API)
            self._ctx = teedev_open(teedev)
            self._ctx.supp_nowait = True  # as tee_client_open_context() does
        else:
            try:
                self._ctx = kernel.tee_client_open_context(registry, is_wanted, name)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                raise ItemNotFound("no device of the registry suits", TEEC_ORIGIN_API) from error
        self.name = self._ctx.teedev.name
        self.version = kernel.tee_client_get_version(self._ctx)

    def open_session(
        self, uuid: bytes, login: int, data: bytes, cancel_id: int, words: list[int]
    ) -> tuple[int, int, int]:
        params = params_from_user(self._ctx, _WORDS.pack(*words), 0, NUM_WORDS // PARAM_WORDS)
        try:
            arg = kernel.TeeIoctlOpenSessionArg(uuid, login, data, cancel_id)
            kernel.tee_client_open_session(self._ctx, arg, params)
            _update(words, params)
        finally:
            params_put(params)
        return arg.ret, arg.ret_origin, arg.session

    def invoke(self, session: int, func: int, cancel_id: int, words: list[int]) -> tuple[int, int]:
        params = params_from_user(self._ctx, _WORDS.pack(*words), 0, NUM_WORDS // PARAM_WORDS)
        try:
            arg = kernel.TeeIoctlInvokeArg(func, session, cancel_id)
            kernel.tee_client_invoke_func(self._ctx, arg, params)
            _update(words, params)
        finally:
            params_put(params)
        return arg.ret, arg.ret_origin

    def cancel(self, session: int, cancel_id: int) -> None:
        kernel.tee_client_cancel_req(self._ctx, kernel.TeeIoctlCancelArg(cancel_id, session))

    def close_session(self, session: int) -> None:
        kernel.tee_client_close_session(self._ctx, session)

    def shm_alloc(self, size: int) -> DoorMemory:
        shm = kernel.tee_shm_alloc_kernel_buf(self._ctx, size)
        try:
            return _KernelMemory(shm, shm.view())
        except BaseException:
            kernel.tee_shm_free(shm)
            raise

    def shm_register(self, buffer: "WriteableBuffer") -> DoorMemory:
        view = memoryview(buffer).cast("B")
        return _KernelMemory(kernel.tee_shm_register_kernel_buf(self._ctx, view), view)

    def close(self) -> None:
        kernel.tee_client_close_context(self._ctx)

    def task(
        self,
        uuid: bytes,
        func: int,
        login: int,
        data: bytes,
        cancel_id: int,
        words: list[int],
    ) -> tuple[int, int]:
        params = params_from_user(self._ctx, _WORDS.pack(*words), 0, NUM_WORDS // PARAM_WORDS)
        try:
            arg = kernel_ext.TeeIoctlTaskArg(uuid, func, login, data, cancel_id)
            kernel_ext.tee_client_task(self._ctx, arg, params)
            _update(words, params)
        finally:
            params_put(params)
        return arg.ret, arg.ret_origin

    def mem_map(self, buffer: "ReadableBuffer", flags: int) -> DoorMemory:
        view = memoryview(buffer).cast("B")
        return _KernelMapping(kernel_ext.tee_client_mem_map(self._ctx, view, flags), view)

    def load_ts(self, image: bytes) -> tuple[int, int, bytes, int]:
        arg = kernel_ext.TeeIoctlLoadTsData(image)
        kernel_ext.tee_client_load_ts(self._ctx, arg)
        return arg.ret, arg.ret_origin, arg.uuid, arg.version

    def get_ts_list(self, name: bytes, api: bytes) -> tuple[int, int, list[bytes]]:
        try:
            found = kernel_ext.tee_client_get_ts_list(self._ctx, name.decode(), api.decode())
        except TeeError as error:
            return error.code, error.origin or TEE_ORIGIN_TEE, []
        return TEE_SUCCESS, TEE_ORIGIN_TEE, [info.pack() for info in found]


class _KernelMemory(DoorMemory):
    """A TeeShm and its bytes."""

    def __init__(self, shm: TeeShm, view: memoryview) -> None:
        self.id = shm.id
        self.view = view
        self._shm: TeeShm | None = shm

    def free(self) -> None:
        if self._shm is not None:
            kernel_ext.tee_client_shm_free(self._shm)

    def release(self) -> None:
        shm, self._shm = self._shm, None
        if shm is not None:
            try:
                self.view.release()
            except BufferError:  # somebody still looks at it: it goes with the last who does
                pass
            kernel.tee_shm_free(shm)


class _KernelMapping(DoorMemory):
    """A mapping and its bytes."""

    def __init__(self, shm: TeeShm, view: memoryview) -> None:
        self.id = shm.id
        self.view = view
        self._shm: TeeShm | None = shm

    def release(self) -> None:
        shm, self._shm = self._shm, None
        if shm is not None:
            try:
                kernel_ext.tee_client_mem_unmap(shm)
            except OSError:  # it ended with its context
                pass
            self.view.release()


def _update(words: list[int], params: list[TeeParam]) -> None:
    """The numbers of each parameter as the TEE left them; the client looks at outputs only."""
    for at, param in enumerate(params):
        words[PARAM_WORDS * at + 1] = param.a & _U64
        words[PARAM_WORDS * at + 2] = param.b & _U64
