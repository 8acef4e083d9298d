# SPDX-License-Identifier: BSD-2-Clause
"""A manifest: what a TEE is made of, in a TOML file (docs/manifest.md).

Read strictly. A key that nobody knows, a value of a wrong type or out of its range is an error that
names the file, where it can the line, and what was probably meant; nothing is guessed or left out.
``tomllib`` is imported here and this module only with ``--manifest``: it costs a start's time.
"""

import os
import tomllib

from gentee.cli.options import similar
from gentee.cli.tee_options import (
    LEAST_MEMORY,
    LOG_LEVELS,
    MOST_CPU,
    MOST_MEMORY,
    MOST_PROTECTED_MEMORY,
)
from gentee.core.registry import BUILTIN
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_SIZE = 1 << 20  # bytes; what is larger was not written by a person
MAX_DEVICES = 16  # half of TEE_NUM_DEVICES: a software TEE has two
MAX_INSTANCES = 1 << 16

_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    dict: "a table",
    list: "a list",
}


class Manifest:
    """What a manifest says; paths are absolute.

    :ivar devices: names of drivers with options for their ``probe``, in the order of the devices.
    :ivar options: options of every device, which one's own come before.
    :ivar state: the state folder, empty if it names none.
    :ivar counter: the state's counter, empty if it names none.
    :ivar group: whose members may join the TEE besides its user; empty for nobody.
    :ivar log_level: one of LOG_LEVELS, ``none``, or empty.
    """

    __slots__ = (
        "counter", "devices", "ephemeral", "group", "log_level", "options", "path", "state",
    )  # fmt: skip

    def __init__(self, path: str) -> None:
        self.path = path
        self.devices: list[tuple[str, dict[str, object]]] = []
        self.options: dict[str, object] = {}
        self.state = ""
        self.counter = ""
        self.ephemeral = False
        self.group = ""
        self.log_level = ""


def load(path: str) -> Manifest:
    """The manifest in the file at ``path``; UserError for what is wrong with it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise UserError(f"manifest {path}: {error.strerror}") from error
    if len(data) > MAX_SIZE:
        raise UserError(f"manifest {path}: larger than {MAX_SIZE >> 20} MiB", "no manifest is")
    return parse(path, data)


def parse(path: str, data: bytes) -> Manifest:
    """The manifest of these bytes; relative paths in it are relative to the folder of ``path``."""
    try:
        text = data.decode()
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise UserError(f"manifest {path}: not UTF-8, at byte {error.start}") from None
    except RecursionError:
        raise UserError(f"manifest {path}: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and numbers that Python takes none of
        raise UserError(f"manifest {path}: {error}", "docs/manifest.md has an example") from None
    return _Reader(path, text).manifest(table)


class _Reader:
    """Looks at each key of a manifest.

    A table is named as in its header, with the number of the device it belongs to.
    """

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._folder = os.path.dirname(os.path.abspath(path))
        self._text = text

    def manifest(self, table: "dict[str, Any]") -> Manifest:
        made = Manifest(self._path)
        here = _Where("", 0)

        def devices(where: "_Where", value: object) -> None:
            wanted = isinstance(value, list) and all(isinstance(one, dict) for one in value)
            if not isinstance(value, list) or not wanted:
                raise self._error(where, "device wants tables", "write [[device]] before each")
            if len(value) > MAX_DEVICES:
                raise self._error(where, f"more than {MAX_DEVICES} devices")
            made.devices = [self._device(number, one) for number, one in enumerate(value)]

        def state(where: "_Where", value: object) -> None:
            made.state = self._file(where, value)

        def counter(where: "_Where", value: object) -> None:
            made.counter = self._file(where, value)

        def ephemeral(where: "_Where", value: object) -> None:
            made.ephemeral = self._flag(where, value)

        def group(where: "_Where", value: object) -> None:
            made.group = self._string(where, value)

        def log_level(where: "_Where", value: object) -> None:
            made.log_level = self._string(where, value)
            levels = ("none", *LOG_LEVELS)
            if made.log_level not in levels:
                hint = f"it can be {', '.join(levels)}"
                raise self._error(where, f"log-level cannot be {made.log_level!r}", hint)

        others = {
            "device": devices,
            "state": state,
            "counter": counter,
            "ephemeral": ephemeral,
            "group": group,
            "log-level": log_level,
        }
        self._each(here, table, {**self._tee_keys(made.options, here), **others})
        if made.state and made.ephemeral:
            raise self._error(
                here.key("ephemeral"), "state and ephemeral contradict each other", "keep one"
            )
        return made

    def _device(self, number: int, table: "dict[str, Any]") -> tuple[str, dict[str, object]]:
        here = _Where("device", number)
        if "driver" not in table:
            raise self._error(here, "a device without driver", 'such as: driver = "soft"')
        name = self._string(here.key("driver"), table["driver"])
        options: dict[str, object] = {}
        given: dict[str, object] = {}

        def driver(where: "_Where", value: object) -> None:
            """It was looked at first: what else there may be depends on it."""

        def own(where: "_Where", value: object) -> None:
            given.update(self._table(where, value))

        keys = {**self._tee_keys(options, here), "driver": driver}
        if name not in BUILTIN:
            # Somebody else's driver: what it can be given is not known here.
            keys["options"] = own
        elif "options" in table:
            hint = "its options are keys of their own, such as reg-mem; docs/manifest.md"
            raise self._error(here.key("options"), f"driver {name} takes no options", hint)
        self._each(here, table, keys)
        return name, {**options, **given}

    def _tee_keys(
        self, options: dict[str, object], at: "_Where"
    ) -> "dict[str, Callable[[_Where, object], None]]":
        """Keys of the whole manifest and of a single device, put into ``options``."""

        def ta_dirs(where: "_Where", value: object) -> None:
            hint = "it wants a folder with services, files such as echo.py"
            options["ta_dirs"] = self._folders(where, value, hint)

        def symbols(where: "_Where", value: object) -> None:
            hint = "it wants a folder with unstripped ELF files, named UUID.elf"
            options["symbols"] = self._folders(where, value, hint)

        def keys(where: "_Where", value: object) -> None:
            options["keys"] = self._files(where, value)

        def strict(where: "_Where", value: object) -> None:
            options["strict"] = self._flag(where, value)

        def ta_enc_key(where: "_Where", value: object) -> None:
            options["ta_enc_key"] = self._file(where, value)

        def ta_class_key(where: "_Where", value: object) -> None:
            options["ta_class_key"] = self._file(where, value)

        def allow_unsigned(where: "_Where", value: object) -> None:
            options["allow_unsigned"] = self._flag(where, value)

        def huk(where: "_Where", value: object) -> None:
            options["huk"] = self._file(where, value)

        def pseudo_tas(where: "_Where", value: object) -> None:
            if not isinstance(value, list):
                raise self._wrong(where, value, "a list of module:Class")
            options["pseudo_tas"] = [self._string(where, one) for one in value]

        def allow_net(where: "_Where", value: object) -> None:
            if not isinstance(value, list):
                raise self._wrong(where, value, "a list of loopback or HOST:PORT")
            options["allow_net"] = [self._network_rule(where, one) for one in value]

        def plugin_dirs(where: "_Where", value: object) -> None:
            hint = "it wants a folder with plugins of tee-supplicant, shared libraries"
            options["plugin_dirs"] = self._folders(where, value, hint)

        def reg_mem(where: "_Where", value: object) -> None:
            options["reg_mem"] = self._flag(where, value)

        def protected_memory(where: "_Where", value: object) -> None:
            number = self._number(where, value, 1, MOST_PROTECTED_MEMORY, "MiB")
            options["protected_memory"] = number

        def tpm_event_log(where: "_Where", value: object) -> None:
            options["tpm_event_log"] = self._file(where, value)

        def limits(where: "_Where", value: object) -> None:
            inside = _Where(f"{at.table}.limits" if at.table else "limits", at.number)
            self._each(inside, self._table(where, value), bounds)

        def memory(where: "_Where", value: object) -> None:
            options["memory_limit"] = self._number(where, value, LEAST_MEMORY, MOST_MEMORY, "MiB")

        def cpu(where: "_Where", value: object) -> None:
            if isinstance(value, float) and 0 <= value <= MOST_CPU:  # neither inf nor nan
                options["cpu_limit"] = value
            else:
                seconds = self._number(where, value, 0, MOST_CPU, "seconds")
                options["cpu_limit"] = float(seconds)

        def instances(where: "_Where", value: object) -> None:
            options["max_instances"] = self._number(where, value, 1, MAX_INSTANCES, "instances")

        bounds: dict[str, Callable[[_Where, object], None]] = {
            "memory": memory,
            "cpu": cpu,
            "instances": instances,
        }
        return {
            "ta-dirs": ta_dirs,
            "symbols": symbols,
            "keys": keys,
            "strict": strict,
            "ta-enc-key": ta_enc_key,
            "ta-class-key": ta_class_key,
            "allow-unsigned": allow_unsigned,
            "reg-mem": reg_mem,
            "huk": huk,
            "pseudo-tas": pseudo_tas,
            "allow-net": allow_net,
            "plugin-dirs": plugin_dirs,
            "protected-memory": protected_memory,
            "tpm-event-log": tpm_event_log,
            "limits": limits,
        }

    def _each(
        self,
        where: "_Where",
        table: "dict[str, Any]",
        known: "dict[str, Callable[[_Where, object], None]]",
    ) -> None:
        for key, value in table.items():
            if key not in known:
                near = similar(key, list(known))
                hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
                raise self._error(where.key(key), f"unknown key {key!r}", hint)
            known[key](where.key(key), value)

    # Values.

    def _wrong(self, where: "_Where", value: object, wanted: str) -> UserError:
        got = next((_WORDS[kind] for kind in type(value).__mro__ if kind in _WORDS), str(value))
        return self._error(where, f"{where.name} wants {wanted}, not {got}")

    def _string(self, where: "_Where", value: object) -> str:
        if not isinstance(value, str):
            raise self._wrong(where, value, "text")
        if not value or "\0" in value:
            raise self._error(where, f"{where.name} cannot be {value!r}")
        return value

    def _file(self, where: "_Where", value: object) -> str:
        path = os.path.join(self._folder, self._string(where, value))
        try:
            os.fsencode(path)
        except UnicodeEncodeError:  # a locale that has no such character
            raise self._error(where, f"{where.name} cannot be {path!a} in this locale") from None
        return os.path.normpath(path)

    def _files(self, where: "_Where", value: object) -> list[str]:
        if not isinstance(value, list):
            raise self._wrong(where, value, "a list of paths")
        return [self._file(where, one) for one in value]

    def _folders(self, where: "_Where", value: object, hint: str) -> list[str]:
        folders = self._files(where, value)
        for folder in folders:
            try:
                os.listdir(folder)
            except OSError as error:
                raise self._error(where, f"{folder}: {error.strerror}", hint) from error
        return folders

    def _network_rule(self, where: "_Where", value: object) -> str:
        from gentee.secure.normal_world.network import parse_rule

        rule = self._string(where, value)
        try:
            parse_rule(rule)
        except UserError as error:
            raise self._error(where, error.message.removeprefix("--"), error.hint) from None
        return rule

    def _flag(self, where: "_Where", value: object) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(where, value, _WORDS[bool])
        return value

    def _number(self, where: "_Where", value: object, least: int, most: int, unit: str) -> int:
        wanted = f"a number of {unit} from {least} to {most}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(where, value, wanted)
        if not least <= value <= most:
            raise self._error(where, f"{where.name} wants {wanted}")
        return value

    def _table(self, where: "_Where", value: object) -> "dict[str, Any]":
        if not isinstance(value, dict):
            raise self._wrong(where, value, "a table")
        return value

    def _error(self, where: "_Where", message: str, hint: str | None = None) -> UserError:
        line = _line(self._text, where)
        place = f", line {line}" if line else ""
        return UserError(
            f"manifest {self._path}{place}: {message}", hint or "docs/manifest.md says what it can"
        )


class _Where:
    """A key in a table: the table's name in its header, of which device, the key's name."""

    __slots__ = ("name", "number", "table")

    def __init__(self, table: str, number: int, name: str = "") -> None:
        self.table = table
        self.number = number
        self.name = name

    def key(self, name: str) -> "_Where":
        return _Where(self.table, self.number, name)


def _line(text: str, where: _Where) -> int:
    """The line, from 1 on, that has the key or the table's header; 0 if that is not plain to see.

    tomllib says no positions. This knows the usual ways to write a table, which is what a message
    needs: where it finds nothing the message only names the key.
    """
    wanted = f"{where.table}.{where.name}".strip(".")
    table, device = "", -1
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line.startswith("["):
            table = line.lstrip("[").partition("]")[0].strip()
            device += line.startswith("[[") and table == "device"
            found = table
        else:
            key, equals, _ = line.partition("=")
            found = f"{table}.{key.strip()}".strip(".") if equals else ""
        inside = max(device, 0) == where.number or not where.table.startswith("device")
        if inside and found == wanted:
            return number
    return 0
