# SPDX-License-Identifier: BSD-2-Clause
"""hello.c in Python, with nothing but the standard library: fcntl.ioctl on the device."""

import array
import fcntl
import mmap
import os
import struct
import uuid

TEE_IOC_VERSION = 0x800CA400
TEE_IOC_SHM_ALLOC = 0xC010A401
TEE_IOC_OPEN_SESSION = 0x8010A402
TEE_IOC_INVOKE = 0x8010A403
ECHO = uuid.UUID("3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10")


def buf_ioctl(fd: int, command: int, data: bytes) -> bytes:
    buffer = array.array("B", data)
    fcntl.ioctl(fd, command, struct.pack("QQ", buffer.buffer_info()[0], len(buffer)))
    return buffer.tobytes()


fd = os.open("/dev/tee0", os.O_RDWR)
impl_id, _, _ = struct.unpack("III", fcntl.ioctl(fd, TEE_IOC_VERSION, bytes(12)))
assert impl_id == 1

answer = buf_ioctl(fd, TEE_IOC_OPEN_SESSION, ECHO.bytes + bytes(40))
_, _, session, ret, _, _ = struct.unpack_from("6I", answer, 32)
assert ret == 0, hex(ret)

request = bytearray(struct.pack("QIi", 4096, 0, 0))
shm = fcntl.ioctl(fd, TEE_IOC_SHM_ALLOC, request)
size, _, shm_id = struct.unpack("QIi", request)
memory = mmap.mmap(shm, size)
memory[:5] = b"hello"

argument = struct.pack("6I4Q", 1, session, 0, 0, 0, 1, 7, 0, 5, shm_id)
_, _, _, ret, _, _ = struct.unpack_from("6I", buf_ioctl(fd, TEE_IOC_INVOKE, argument))
assert ret == 0, hex(ret)
assert memory[:6] == b"HELLO\0"
print("ok hello")
