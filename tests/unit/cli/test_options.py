# SPDX-License-Identifier: BSD-2-Clause
"""Reading of command lines, and help texts."""

import pytest

from gentee.cli.options import Command, Option, columns, similar
from gentee.errors import UserError

COMMAND = Command(
    "paint",
    "Paint something.",
    [
        Option("--colour", "which", metavar="NAME", repeat=True),
        Option("--finish", "how", choices=("matt", "gloss")),
        Option("--quick", "in a hurry", short="-q"),
    ],
    "-- WHAT",
)
NO_WORDS = Command("clean", "Clean up.", [])


def test_options_and_words() -> None:
    given = COMMAND.parse(["--colour", "red", "-q", "--finish=gloss", "--colour=", "door", "-q"])
    assert given.all("--colour") == ["red", ""]
    assert given.has("--quick")
    assert not given.has("--help")
    assert given.value("--finish", "matt") == "gloss"
    assert given.words == ["door", "-q"]


def test_nothing_given() -> None:
    given = COMMAND.parse([])
    assert given.all("--colour") == given.words == []
    assert given.value("--finish", "matt") == "matt"


def test_the_last_one_counts() -> None:
    given = COMMAND.parse(["--finish", "matt", "--finish", "gloss"])
    assert given.value("--finish", "") == "gloss"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--", "--colour"], ["--colour"]),
        (["--", "--", "x"], ["--", "x"]),
        (["-", "-q"], ["-", "-q"]),
        (["door", "--", "x"], ["door", "--", "x"]),
        (["-q", "--"], []),
    ],
)
def test_options_end(arguments: list[str], words: list[str]) -> None:
    assert COMMAND.parse(arguments).words == words


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--color"], "paint: unknown option '--color'", "did you mean --colour?"),
        (["--xyzzy"], "paint: unknown option '--xyzzy'", "'gentee paint --help'"),
        (["-x"], "paint: unknown option '-x'", "'gentee paint --help'"),
        (["-qq"], "paint: unknown option '-qq'", "write options one by one"),
        (["--colour"], "paint: --colour needs a value: NAME", "'gentee paint --help'"),
        (["--quick=1"], "paint: --quick takes no value", "'gentee paint --help'"),
        (["--finish", "rough"], "paint: --finish cannot be 'rough'", "it can be matt, gloss"),
    ],
)
def test_wrong_command_line(arguments: list[str], message: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        COMMAND.parse(arguments)
    assert error.value.message == message
    assert error.value.hint is not None
    assert hint in error.value.hint
    assert error.value.status == 2


def test_words_where_none_belong() -> None:
    with pytest.raises(UserError, match="what to do with 'all'"):
        NO_WORDS.parse(["all"])


def test_help_names_all() -> None:
    text = COMMAND.help("The end.")
    assert text.startswith("usage: gentee paint [OPTIONS] -- WHAT\n\nPaint something.\n")
    for part in ("--colour NAME", "--finish matt|gloss", "-q, --quick", "-h, --help", "repeated"):
        assert part in text
    assert text.endswith("\nThe end.\n")
    assert max(map(len, text.splitlines())) <= 100


def test_columns_are_wrapped() -> None:
    lines = columns([("a", "word " * 40), ("long", "")], 60)
    assert lines[0].startswith("  a     word")
    assert lines[1].startswith("        word")
    assert lines[-1] == "  long"
    assert all(len(line) <= 60 for line in lines)


def test_similar() -> None:
    assert similar("docter", ["doctor", "run"]) == "doctor"
    assert similar("xyzzy", ["doctor", "run"]) is None
