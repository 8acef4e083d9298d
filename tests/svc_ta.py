# SPDX-License-Identifier: BSD-2-Clause
"""A TA for tests of system calls: memory of every kind, and a TEE that the test plays."""

from collections.abc import Callable
from typing import Any

from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_NOT_SUPPORTED, TEE_LOGIN_PUBLIC, TEE_SUCCESS
from gentee.errors import Cancel, ItemNotFound, TeeError
from gentee.ta.client_memory import SHARED
from gentee.ta.engine.base import PROT_EXEC, PROT_READ, PROT_WRITE
from gentee.ta.engine.native import NativeEngine
from gentee.ta.loader.image import ElfImage
from gentee.ta.requests import Channel
from gentee.ta.svc.table import HANDLERS
from gentee.ta.user_ta import UserTa

UUID = bytes.fromhex("112233445566778899aabbccddeeff00")
NATIVE_UUID = bytes.fromhex("443322116655887799aabbccddeeff00")
CLIENT = bytes(range(16))

PAGE = abi.SMALL_PAGE_SIZE
RW = PROT_READ | PROT_WRITE
CODE = 0x20000000  # one page, to read and execute
DATA = CODE + PAGE  # two pages next to it, private
STACK = 0x20010000  # private, and next to it
STACK2 = STACK + PAGE  # another region of it
LENT = 0x30000000  # two pages of a client
LENT2 = LENT + 2 * PAGE  # one page more, in a region of its own
NOWHERE = 0x40000000


class FakeTee(Channel):
    """Answers requests as the test says; ``asked`` has the codes of those that were made."""

    def __init__(self) -> None:
        super().__init__()
        self.attach(memoryview(bytearray(ch.MAILBOX_SIZE)).cast("Q"))
        self.answers: dict[int, Callable[[FakeTee], int]] = {}
        self.asked: list[int] = []
        self.memory: bytearray | None = bytearray(1 << 16)

    def ask(self, code: int) -> int:
        self.asked.append(code)
        answer = self.answers.get(code)
        self[ch.Q_RET] = TEE_ERROR_NOT_SUPPORTED if answer is None else answer(self)
        return self[ch.Q_RET]

    def window(self, size: int) -> memoryview | None:
        memory = self.memory
        if memory is None:
            return None
        if size > len(memory):
            memory = self.memory = bytearray(size)
        self[ch.Q_FUNC], self[ch.Q_SIZE] = 99, len(memory)  # as a request for one leaves them
        return memoryview(memory)


class TestedTa(UserTa):
    """An instance that has memory and no code. :meth:`call` makes system calls for it."""

    __test__ = False

    def __init__(self, arch: str, memory_limit: int = 16 << 20) -> None:
        self.tee = FakeTee()
        super().__init__(UUID, NativeEngine(arch), memory_limit, self._library, self.tee)
        self.lines: list[tuple[int, str]] = []
        self.waited: list[tuple[int, bool]] = []
        self.is_cancelled = False
        self.session = 7
        self.clients[7] = (TEE_LOGIN_PUBLIC, CLIENT)
        self.add(CODE, 1, PROT_READ | PROT_EXEC, "TA", UUID)
        self.add(DATA, 2, RW, "TA", UUID)
        self.add(STACK, 1, RW, "stack", None)
        self.add(STACK2, 1, RW, "stack", None)
        self.add(LENT, 2, RW, "client memory", SHARED)
        self.add(LENT2, 1, RW, "client memory", SHARED)

    def add(self, address: int, pages: int, prot: int, name: str, owner: object) -> None:
        memory = self.space.allocate(pages * PAGE)
        self.space.map(address, memory, prot, name, owner)

    def _library(self, uuid: bytes) -> ElfImage:
        raise ItemNotFound(uuid.hex())

    def log(self, level: int, text: str) -> None:
        self.lines.append((level, text))

    def wait(self, milliseconds: int, masked: bool) -> None:
        self.waited.append((milliseconds, masked))
        if self.is_cancelled and not masked:
            raise Cancel("cancelled")

    def cancelled(self) -> bool:
        return self.is_cancelled

    def call(self, number: int, *args: int) -> int:
        """Make a system call, as :meth:`UserTa.enter` does; registers that are not given are 0."""
        registers = (*args, *(0,) * (8 - len(args)))
        try:
            result = HANDLERS[number](self, registers) or TEE_SUCCESS
        except TeeError as error:
            result = error.code
        return result

    def u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def put_u32(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(4, "little"))

    def end(self) -> None:
        """Free the instance."""
        self.space.close()
        self.engine.close()


def everything(ta: TestedTa) -> dict[str, Any]:
    """What there is to see of a TA's memory: to tell that something was not touched."""
    return {f"{region.address:#x}": bytes(region.memory) for region in ta.space}
