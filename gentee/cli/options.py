# SPDX-License-Identifier: BSD-2-Clause
"""Options of the commands: what there is, reading them, and the help text.

Not argparse: importing that takes twice as long as starting the interpreter, and ``gentee run`` is
put in front of programs that take less. The rules are the usual ones (``--name VALUE``,
``--name=VALUE``, ``-v``); options end at ``--`` or at the first word that is none.
"""

from collections.abc import Sequence

from gentee.errors import UserError

USAGE_STATUS = 2  # the command line itself is wrong


class Option:
    """One option. With ``metavar`` it takes a value, and may be given again if ``repeat``."""

    __slots__ = ("choices", "help", "metavar", "name", "repeat", "short")

    def __init__(
        self,
        name: str,
        text: str,
        *,
        short: str = "",
        metavar: str = "",
        choices: Sequence[str] = (),
        repeat: bool = False,
    ) -> None:
        self.name = name
        self.help = text
        self.short = short
        self.metavar = metavar or "|".join(choices)
        self.choices = tuple(choices)
        self.repeat = repeat


HELP = Option("--help", "print this text", short="-h")


class Command:
    """How a command is called: ``usage`` is what follows the options.

    :param mixed: options may also stand between and behind the words.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        options: Sequence[Option],
        usage: str = "",
        *,
        mixed: bool = False,
    ) -> None:
        self.name = name
        self.mixed = mixed
        self.summary = summary
        self.options = (*options, HELP)
        self.usage = usage
        self._by_name = {option.name: option for option in self.options}
        self._by_short = {option.short: option for option in self.options if option.short}

    def parse(self, arguments: Sequence[str]) -> "Given":
        """What was given; UserError for what cannot be."""
        given = Given()
        position = 0
        while position < len(arguments):
            word = arguments[position]
            if word == "--":
                position += 1
                break
            if not word.startswith("-") or word == "-":
                if not self.mixed:
                    break
                given.words.append(word)
                position += 1
                continue
            position += 1
            name, equals, value = word.partition("=")
            if word.startswith("--"):
                option = self._by_name.get(name)
                if option is None:
                    raise self._unknown(name)
            else:
                if len(word) > 2:
                    raise self.error(f"unknown option {word!r}", "write options one by one")
                option = self._by_short.get(word)
                if option is None:
                    raise self._unknown(word)
                equals = ""
            if not option.metavar:
                if equals:
                    raise self.error(f"{option.name} takes no value")
                given.add(option, "")
                continue
            if not equals:
                if position == len(arguments):
                    raise self.error(f"{option.name} needs a value: {option.metavar}")
                value = arguments[position]
                position += 1
            if option.choices and value not in option.choices:
                choices = ", ".join(option.choices)
                raise self.error(f"{option.name} cannot be {value!r}", f"it can be {choices}")
            given.add(option, value)
        given.words += arguments[position:]
        if given.words and not self.usage and not given.has("--help"):
            raise self.error(f"what to do with {given.words[0]!r}?")
        return given

    def error(self, message: str, hint: str | None = None) -> UserError:
        """The error for a wrong command line; a hint is always there."""
        hint = hint or f"'gentee {self.name} --help' says what it can be given"
        return UserError(f"{self.name}: {message}", hint, USAGE_STATUS)

    def _unknown(self, name: str) -> UserError:
        near = similar(name, self._by_name)
        return self.error(f"unknown option {name!r}", near and f"did you mean {near}?")

    def help(self, details: str = "") -> str:
        """The help text, ending in a newline."""
        usage = f" {self.usage}" if self.usage else ""
        lines = [f"usage: gentee {self.name} [OPTIONS]{usage}", "", self.summary, "", "options:"]
        rows = []
        for option in self.options:
            left = f"{option.short}, {option.name}" if option.short else f"    {option.name}"
            text = option.help + (" (can be repeated)" if option.repeat else "")
            rows.append((f"{left} {option.metavar}".rstrip(), text))
        lines += columns(rows)
        if details:
            lines += ["", details]
        return "\n".join(lines) + "\n"


class Given:
    """The options that were given, and the words after them."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._values: dict[str, list[str]] = {}

    def add(self, option: Option, value: str) -> None:
        if option.repeat:
            self._values.setdefault(option.name, []).append(value)
        else:
            self._values[option.name] = [value]  # the last one counts

    def has(self, name: str) -> bool:
        return name in self._values

    def value(self, name: str, default: str) -> str:
        return self._values.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])


def columns(rows: Sequence[tuple[str, str]], width: int = 100) -> list[str]:
    """Two columns, the second one wrapped."""
    import textwrap

    left = max(len(name) for name, _ in rows)
    lines = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, width - left - 4) or [""]
        lines.append(f"  {name:<{left}}  {first}".rstrip())
        lines += [f"  {'':<{left}}  {other}" for other in others]
    return lines


def similar(word: str, words: Sequence[str] | dict[str, Option]) -> str | None:
    """What was probably meant, None without an idea."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(words), 1)), None)
