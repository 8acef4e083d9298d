# SPDX-License-Identifier: BSD-2-Clause
"""Requests of services: what a service asks of the TEE while it is at work for a command.

A request is a block of words in the service's mailbox and a trapped call that says which request
it is. The service is not trusted: the block is read once, each handler checks what it uses, and
what is wrong is answered with a code. The instance's command stays under way meanwhile. A process
that asks when it has nothing to do, or twice at a time, is not ours any more, and is ended.
"""

from collections.abc import Callable
from struct import Struct

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ORIGIN_TEE
from gentee.errors import GenericError, NotSupported, OutOfMemory, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host
    from gentee.secure.instance import Instance

_BLOCK = Struct(f"<{ch.Q_WORDS}Q").unpack_from
_BLOCK_OFFSET = 8 * ch.Q_BLOCK
_UUID = Struct("<QQ").pack

Handler = Callable[["Request"], None]


class Request:
    """One request: a copy of its block. A handler answers it with :meth:`reply`, soon or later."""

    __slots__ = ("_words", "instance", "notify_id")

    def __init__(self, instance: "Instance", notify_id: int) -> None:
        self.instance = instance
        self.notify_id = notify_id
        self._words: tuple[int, ...] = _BLOCK(instance.mailbox, _BLOCK_OFFSET)

    def word(self, index: int) -> int:
        """The word that the mailbox has at ``index``, Q_*: 64 bits."""
        return self._words[index - ch.Q_BLOCK]

    @property
    def session(self) -> int:
        return self.word(ch.Q_SESSION)

    @property
    def func(self) -> int:
        return self.word(ch.Q_FUNC)

    @property
    def timeout(self) -> int:
        """Milliseconds: 32 bits."""
        return self.word(ch.Q_TIMEOUT) & 0xFFFF_FFFF

    @property
    def unmasked(self) -> bool:
        return self.word(ch.Q_UNMASKED) != 0

    @property
    def uuid(self) -> bytes:
        return _UUID(self.word(ch.Q_UUID), self.word(ch.Q_UUID + 1))

    @property
    def param_types(self) -> int:
        return self.word(ch.Q_PARAM_TYPES)

    @property
    def params(self) -> tuple[int, ...]:
        """Four times a, b, c."""
        first = ch.Q_PARAMS - ch.Q_BLOCK
        return self._words[first : first + 12]

    def reply(self, result: int, *words: tuple[int, int]) -> None:
        """Let the service go on with ``result`` and ``words``: (index, value). Any thread."""
        self.instance.reply(self.notify_id, result, words)

    def fail(self, error: TeeError) -> None:
        """Let the service go on with an error; of the TEE, unless it says otherwise."""
        origin = error.origin if error.origin is not None else TEE_ORIGIN_TEE
        self.reply(error.code, (ch.Q_ORIGIN, origin))

    def run(self, handler: Handler) -> None:
        """Let ``handler`` answer, outside the receiving thread; what goes wrong is the answer."""
        try:
            handler(self)
        except TeeError as error:
            self.fail(error)
        except BlockingIOError:  # of gentee.core.workers: no thread can be had
            self.fail(OutOfMemory("no thread for a request"))
        except BaseException:
            self.fail(GenericError("request"))
            raise


class Requests:
    """The table of requests.

    :param handlers: by RQ_*. Each is called in the receiving thread and must not wait; TeeError is
        the answer.
    """

    def __init__(self, host: "Host", handlers: dict[int, Handler]) -> None:
        self._host = host
        self._handlers = handlers

    def handle(self, instance: "Instance", notify_id: int, code: int) -> None:
        """The service of ``instance`` asks for ``code``."""
        request = Request(instance, notify_id)
        handler = self._handlers.get(code)
        if handler is None:
            request.fail(NotSupported(f"request {code}"))
            return
        try:
            request.run(handler)
        except Exception as error:  # a bug of ours costs this request only
            self._host.bug(error)
