# SPDX-License-Identifier: BSD-2-Clause
"""The door of ``/dev/teeN``: real ioctls, to gentee or to a TEE in hardware (<linux/tee.h>).

Some facts about this side of the device
========================================

- ``fcntl.ioctl`` copies an argument of up to 1024 bytes and lets other threads run meanwhile, so a
  call that waits in the TEE stops only its own thread. The parameters lie behind a pointer in the
  argument and are not copied: their block must stay in its place.
- Some TEEs let a signal interrupt a call (EINTR). Whether it has run by then is not known, so it is
  not made again: the caller gets what libteec would say, unless the signal's handler raises.
- Shared memory ends when its descriptor is closed and its mapping is gone. Python's ``mmap`` keeps
  a duplicate of the descriptor for as long as it maps.
"""

import errno
import fcntl
import io
import mmap
from struct import Struct
from typing import TYPE_CHECKING

from gentee.abi.gentee_tee import (
    TEE_IOC_GET_TS_LIST,
    TEE_IOC_LOAD_TS,
    TEE_IOC_MEM_MAP,
    TEE_IOC_MEM_UNMAP,
    TEE_IOC_SHM_FREE,
    TEE_IOC_TASK,
    TEE_IOCTL_GET_TS_LIST_DATA,
    TEE_IOCTL_LOAD_TS_DATA,
    TEE_IOCTL_MEM_MAP_DATA,
    TEE_IOCTL_MEM_UNMAP_DATA,
    TEE_IOCTL_SHM_FREE_DATA,
    TEE_IOCTL_TASK_ARG,
    TEE_TS_INFO,
)
from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEEC_ORIGIN_API
from gentee.abi.linux_tee import (
    TEE_IOC_CANCEL,
    TEE_IOC_CLOSE_SESSION,
    TEE_IOC_INVOKE,
    TEE_IOC_OPEN_SESSION,
    TEE_IOC_SHM_ALLOC,
    TEE_IOC_SHM_REGISTER,
    TEE_IOC_VERSION,
    TEE_IOCTL_BUF_DATA,
    TEE_IOCTL_CANCEL_ARG,
    TEE_IOCTL_CLOSE_SESSION_ARG,
    TEE_IOCTL_INVOKE_ARG,
    TEE_IOCTL_OPEN_SESSION_ARG,
    TEE_IOCTL_SHM_ALLOC_DATA,
    TEE_IOCTL_SHM_REGISTER_DATA,
    TEE_IOCTL_VERSION_DATA,
)
from gentee.client.doors import NUM_WORDS, PARAM_WORDS, Door, DoorMemory, is_wanted
from gentee.errors import ItemNotFound
from gentee.linux.buffers import PinnedBuffer, address_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_MAX_DEVICES = 10  # libteec tries as many

_NUM_PARAMS = NUM_WORDS // PARAM_WORDS
_WORDS = Struct(f"<{NUM_WORDS}Q")
_OPEN_SIZE = TEE_IOCTL_OPEN_SESSION_ARG.size
_INVOKE_SIZE = TEE_IOCTL_INVOKE_ARG.size
_TASK_SIZE = TEE_IOCTL_TASK_ARG.size
_FIRST_ROOM = 16  # services that a list has room for before the TEE was asked


class _ArgBlock:
    """Room for the argument of one call at a time, with the struct tee_ioctl_buf_data for it."""

    __slots__ = ("data", "invoke", "open", "pinned", "task")

    def __init__(self) -> None:
        self.data = bytearray(max(_OPEN_SIZE, _TASK_SIZE) + _WORDS.size)
        self.pinned = PinnedBuffer(self.data)
        address = self.pinned.address
        self.open = TEE_IOCTL_BUF_DATA.pack(address, _OPEN_SIZE + _WORDS.size)
        self.invoke = TEE_IOCTL_BUF_DATA.pack(address, _INVOKE_SIZE + _WORDS.size)
        self.task = TEE_IOCTL_BUF_DATA.pack(address, _TASK_SIZE + _WORDS.size)


class DeviceDoor(Door):
    """A context of a device file.

    :param path: of the device; of a real TEE too.
    :raises OSError: as open(2) and TEE_IOC_VERSION fail; ENOTTY for what is not a TEE.
    """

    def __init__(self, path: str = "/dev/tee0") -> None:
        self.name = path
        self._file = io.FileIO(path, "r+")
        self._blocks: list[_ArgBlock] = []  # free ones; append and pop are atomic
        try:
            version = bytearray(TEE_IOCTL_VERSION_DATA.size)
            fcntl.ioctl(self._file, TEE_IOC_VERSION, version)
        except BaseException:
            self._file.close()
            raise
        impl_id, impl_caps, gen_caps = TEE_IOCTL_VERSION_DATA.unpack(version)
        self.version = (impl_id, impl_caps, gen_caps)

    @classmethod
    def find(cls, name: str | None = None) -> "DeviceDoor":
        """The first of ``/dev/tee0`` to ``/dev/tee9`` that suits TEEC_InitializeContext(name).

        :param name: None, ``optee-tz``, or the path of one device.
        :raises ItemNotFound: there is none (origin API); the message says what was tried.
        """
        if name is not None and "/" in name:
            paths, name = [name], None
        else:
            paths = [f"/dev/tee{number}" for number in range(_MAX_DEVICES)]
        reasons = []
        for path in paths:
            try:
                door = cls(path)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    reasons.append(f"{path}: {error.strerror}")
                continue
            if is_wanted(door.version, name):
                return door
            reasons.append(f"{path}: another kind of TEE")
            door.close()
        raise ItemNotFound("; ".join(reasons) or f"no {paths[0]}", TEEC_ORIGIN_API)

    def _fd(self) -> int:
        try:
            return self._file.fileno()
        except ValueError:
            raise OSError(errno.EBADF, "the context is closed") from None

    def _take_block(self) -> _ArgBlock:
        try:
            return self._blocks.pop()
        except IndexError:
            return _ArgBlock()

    def open_session(
        self, uuid: bytes, login: int, data: bytes, cancel_id: int, words: list[int]
    ) -> tuple[int, int, int]:
        block = self._take_block()
        try:
            TEE_IOCTL_OPEN_SESSION_ARG.pack_into(
                block.data, 0, uuid, data, login, cancel_id, 0, 0, 0, _NUM_PARAMS
            )
            _WORDS.pack_into(block.data, _OPEN_SIZE, *words)
            fcntl.ioctl(self._fd(), TEE_IOC_OPEN_SESSION, block.open)
            answer = TEE_IOCTL_OPEN_SESSION_ARG.unpack_from(block.data)
            words[:] = _WORDS.unpack_from(block.data, _OPEN_SIZE)
        finally:
            self._blocks.append(block)
        _uuid, _data, _login, _cancel_id, session, ret, ret_origin, _num_params = answer
        return ret, ret_origin, session

    def invoke(self, session: int, func: int, cancel_id: int, words: list[int]) -> tuple[int, int]:
        block = self._take_block()
        try:
            TEE_IOCTL_INVOKE_ARG.pack_into(
                block.data, 0, func, session, cancel_id, 0, 0, _NUM_PARAMS
            )
            _WORDS.pack_into(block.data, _INVOKE_SIZE, *words)
            fcntl.ioctl(self._fd(), TEE_IOC_INVOKE, block.invoke)
            answer = TEE_IOCTL_INVOKE_ARG.unpack_from(block.data)
            words[:] = _WORDS.unpack_from(block.data, _INVOKE_SIZE)
        finally:
            self._blocks.append(block)
        return answer[3], answer[4]

    def cancel(self, session: int, cancel_id: int) -> None:
        fcntl.ioctl(self._fd(), TEE_IOC_CANCEL, TEE_IOCTL_CANCEL_ARG.pack(cancel_id, session))

    def close_session(self, session: int) -> None:
        fcntl.ioctl(self._fd(), TEE_IOC_CLOSE_SESSION, TEE_IOCTL_CLOSE_SESSION_ARG.pack(session))

    def shm_alloc(self, size: int) -> DoorMemory:
        data = bytearray(TEE_IOCTL_SHM_ALLOC_DATA.pack(size, 0, 0))
        with io.FileIO(fcntl.ioctl(self._fd(), TEE_IOC_SHM_ALLOC, data), "r+") as shm:
            rounded_size, _flags, shm_id = TEE_IOCTL_SHM_ALLOC_DATA.unpack(data)
            return _MappedMemory(self, shm_id, mmap.mmap(shm.fileno(), rounded_size))

    def shm_register(self, buffer: "WriteableBuffer") -> DoorMemory:
        pinned = PinnedBuffer(buffer)
        data = bytearray(TEE_IOCTL_SHM_REGISTER_DATA.pack(pinned.address, pinned.size, 0, 0))
        try:
            shm = io.FileIO(fcntl.ioctl(self._fd(), TEE_IOC_SHM_REGISTER, data))
        except BaseException:
            pinned.release()
            raise
        _address, _length, _flags, shm_id = TEE_IOCTL_SHM_REGISTER_DATA.unpack(data)
        return _RegisteredMemory(self, shm_id, shm, pinned)

    def close(self) -> None:
        self._file.close()

    def task(
        self,
        uuid: bytes,
        func: int,
        login: int,
        data: bytes,
        cancel_id: int,
        words: list[int],
    ) -> tuple[int, int]:
        block = self._take_block()
        try:
            TEE_IOCTL_TASK_ARG.pack_into(
                block.data, 0, uuid, data, login, cancel_id, func, 0, 0, 0, _NUM_PARAMS, 0
            )
            _WORDS.pack_into(block.data, _TASK_SIZE, *words)
            fcntl.ioctl(self._fd(), TEE_IOC_TASK, block.task)
            answer = TEE_IOCTL_TASK_ARG.unpack_from(block.data)
            words[:] = _WORDS.unpack_from(block.data, _TASK_SIZE)
        finally:
            self._blocks.append(block)
        return answer[6], answer[7]

    def mem_map(self, buffer: "ReadableBuffer", flags: int) -> DoorMemory:
        view = memoryview(buffer).cast("B")  # holds the buffer in its place
        data = bytearray(TEE_IOCTL_MEM_MAP_DATA.pack(address_of(view), view.nbytes, flags, 0))
        fcntl.ioctl(self._fd(), TEE_IOC_MEM_MAP, data)
        return _Mapping(self, TEE_IOCTL_MEM_MAP_DATA.unpack(data)[3], view)

    def mem_unmap(self, mapping_id: int) -> None:
        """TEE_IOC_MEM_UNMAP."""
        fcntl.ioctl(self._fd(), TEE_IOC_MEM_UNMAP, TEE_IOCTL_MEM_UNMAP_DATA.pack(mapping_id, 0))

    def shm_free(self, shm_id: int) -> None:
        """TEE_IOC_SHM_FREE."""
        fcntl.ioctl(self._fd(), TEE_IOC_SHM_FREE, TEE_IOCTL_SHM_FREE_DATA.pack(shm_id, 0))

    def load_ts(self, image: bytes) -> tuple[int, int, bytes, int]:
        data = bytearray(
            TEE_IOCTL_LOAD_TS_DATA.pack(address_of(image), len(image), 0, 0, bytes(16), 0, 0)
        )
        fcntl.ioctl(self._fd(), TEE_IOC_LOAD_TS, data)
        fields = TEE_IOCTL_LOAD_TS_DATA.unpack(data)
        version, uuid, ret, ret_origin = fields[3:]
        return ret, ret_origin, uuid, version

    def get_ts_list(self, name: bytes, api: bytes) -> tuple[int, int, list[bytes]]:
        entry_size, room = TEE_TS_INFO.size, _FIRST_ROOM
        while True:
            entries = bytearray(entry_size * room)
            pinned = PinnedBuffer(entries)
            head = (pinned.address, len(entries), 0, entry_size, 0, 0, 0, 0)
            data = bytearray(TEE_IOCTL_GET_TS_LIST_DATA.pack(*head, name, api))
            try:
                fcntl.ioctl(self._fd(), TEE_IOC_GET_TS_LIST, data)
            finally:
                pinned.release()
            fields = TEE_IOCTL_GET_TS_LIST_DATA.unpack(data)
            count, ret, ret_origin = fields[4:7]
            if ret != TEE_ERROR_SHORT_BUFFER or count <= room:
                break
            room = count + _FIRST_ROOM  # there may be more by then
        starts = range(0, entry_size * min(count, room), entry_size)
        return ret, ret_origin, [bytes(entries[at : at + entry_size]) for at in starts]


class _MappedMemory(DoorMemory):
    """Pages of the TEE's, mapped here."""

    def __init__(self, door: DeviceDoor, shm_id: int, mapping: mmap.mmap) -> None:
        self._door = door
        self.id = shm_id
        self.view = memoryview(mapping)
        self._mapping = mapping

    def free(self) -> None:
        self._door.shm_free(self.id)

    def release(self) -> None:
        try:
            self.view.release()
            self._mapping.close()
        except BufferError:  # somebody still looks at it: it goes with the last who does
            pass


class _RegisteredMemory(DoorMemory):
    """Memory of this process that the TEE may use until its descriptor is closed."""

    def __init__(self, door: DeviceDoor, shm_id: int, shm: io.FileIO, pinned: PinnedBuffer) -> None:
        self._door = door
        self.id = shm_id
        self.view = pinned.view
        self._shm = shm
        self._pinned = pinned

    def free(self) -> None:
        self._door.shm_free(self.id)

    def release(self) -> None:
        self._shm.close()
        self._pinned.release()


class _Mapping(DoorMemory):
    """Memory of this process that the TEE may use until it is unmapped."""

    def __init__(self, door: DeviceDoor, mapping_id: int, view: memoryview) -> None:
        self.id = mapping_id
        self.view = view
        self._door: DeviceDoor | None = door

    def release(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            try:
                door.mem_unmap(self.id)
            except OSError:  # it ended with its context
                pass
            self.view.release()
