# SPDX-License-Identifier: BSD-2-Clause
"""Colour for people, where it is a terminal that they look at."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


class Style:
    """Wraps text in colours if ``stream`` is a terminal; NO_COLOR in the environment forbids it."""

    def __init__(self, stream: "TextIO | None") -> None:
        self.colour = stream is not None and stream.isatty() and "NO_COLOR" not in os.environ

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def bold(self, text: str) -> str:
        return self._in("1", text)

    def dim(self, text: str) -> str:
        return self._in("2", text)

    def red(self, text: str) -> str:
        return self._in("31", text)

    def green(self, text: str) -> str:
        return self._in("32", text)

    def yellow(self, text: str) -> str:
        return self._in("33", text)
