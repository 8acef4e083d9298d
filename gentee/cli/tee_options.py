# SPDX-License-Identifier: BSD-2-Clause
"""What a TEE is made of: the options that ``gentee run`` and ``gentee serve`` share.

What the command line says counts, then what the manifest says (:mod:`gentee.cli.manifest`), then
what is usual. Nothing is loaded here that a plain ``gentee run`` does not need.
"""

import os

from gentee.cli.options import USAGE_STATUS, Option
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gentee.cli.manifest import Manifest
    from gentee.cli.options import Given
    from gentee.core.driver import TeeDriver
    from gentee.device.state_dir import StateDir

LOG_LEVELS = ("error", "info", "debug", "flow")  # as in gentee.core.host, from 1 on

LEAST_MEMORY = 16  # MiB: the interpreter's own, and some room
MOST_MEMORY = (1 << 20) - 1
MOST_PROTECTED_MEMORY = 1024  # MiB
MOST_CPU = 999_999_999  # seconds

SOFT = "soft"  # the driver of a device that nobody chose one for; the one that keeps a state

TA_ENC_KEY = Option(
    "--ta-enc-key",
    "a file with the device's key that images may be encrypted with, by default OP-TEE's",
    metavar="FILE",
)
TA_CLASS_KEY = Option(
    "--ta-class-key",
    "the same for images that say that they are for a class of devices",
    metavar="FILE",
)
ALLOW_UNSIGNED = Option(
    "--allow-unsigned",
    "take ELF files UUID.ta and UUID.elf without a signature; for development only",
)

TEE_OPTIONS = [
    Option(
        "--driver",
        "the driver of the next device, by default soft; 'gentee ls' lists them",
        metavar="NAME",
        repeat=True,
    ),
    Option(
        "--ta-dir",
        "a folder with trusted services, before the examples that come with gentee",
        metavar="DIR",
        repeat=True,
    ),
    Option(
        "--reg-mem",
        "say that the TEE takes registered memory: libteec then registers its own instead of "
        "sharing pages",
    ),
    Option(
        "--key",
        "a PEM file with a key that images of services may be signed with",
        metavar="FILE",
        repeat=True,
    ),
    Option("--strict", "these keys only, not OP-TEE's public development keys"),
    TA_ENC_KEY,
    TA_CLASS_KEY,
    ALLOW_UNSIGNED,
    Option(
        "--state",
        "the folder in which the TEE keeps what is installed, by default that of the user",
        metavar="DIR",
    ),
    Option("--ephemeral", "keep nothing, and use nothing that was kept"),
    Option(
        "--counter",
        "a file elsewhere that counts the changes of the state: an older copy of it is refused",
        metavar="FILE",
    ),
    Option(
        "--memory-limit",
        "MiB of private memory that each service may have, by default 64",
        metavar="MIB",
    ),
    Option(
        "--cpu-limit",
        "seconds of CPU time that one command of a service may take, by default 60; 0 for no limit",
        metavar="SECONDS",
    ),
    Option(
        "--symbols",
        "a folder with unstripped ELF files of TAs, for the report when one crashes; those beside "
        "the .ta files are found anyway",
        metavar="DIR",
        repeat=True,
    ),
    Option(
        "--protected-memory",
        "MiB of memory for the secure data path, which clients allocate from "
        "/dev/dma_heap/protected,secure-video and never see; by default none",
        metavar="MIB",
    ),
    Option(
        "--tpm-event-log",
        "a file with what firmware measured, which services may ask for; by default there is none",
        metavar="FILE",
    ),
    Option(
        "--pseudo-ta",
        "a further pseudo TA, a class that Python can import: it runs in gentee's own process, and "
        "is trusted as gentee is",
        metavar="MODULE:CLASS",
        repeat=True,
    ),
    Option(
        "--allow-net",
        "let sockets of services reach this machine itself, or a host's port; by default nothing",
        metavar="loopback|HOST:PORT",
        repeat=True,
    ),
    Option(
        "--plugin-dir",
        "a folder with plugins as OP-TEE's tee-supplicant has them, for services to call",
        metavar="DIR",
        repeat=True,
    ),
    Option(
        "--huk",
        "a file with the hardware unique key, by default OP-TEE's for development",
        metavar="FILE",
    ),
    Option(
        "--manifest",
        "a TOML file that says all this; what the command line says comes before",
        metavar="FILE",
    ),
    Option(
        "--log-level",
        "the least important lines of services to show, by default debug",
        choices=LOG_LEVELS,
    ),
    Option("--quiet", "show no lines of services at all", short="-q"),
    Option("--verbose", "say which devices there are, and how", short="-v"),
]


class Settings:
    """What command line and manifest say together, looked at as far as nothing has to be loaded.

    :ivar devices: names of drivers with options for their ``probe``, in the order of the devices.
    :ivar ta_dirs: folders of services that somebody named.
    :ivar state: the path of the state folder that was named, empty if none was.
    :ivar counter: the path of its counter, empty if there is none.
    :ivar group: whose members may join, for ``gentee serve``; empty for nobody.
    :ivar log_level: 0 for none.
    """

    __slots__ = (
        "counter", "devices", "ephemeral", "group", "log_level", "state", "ta_dirs", "verbose",
    )  # fmt: skip

    def __init__(self, given: "Given") -> None:
        manifest = _manifest(given)
        self.verbose = given.has("--verbose")
        self.group = manifest.group if manifest else ""
        self.log_level = _log_level(given, manifest)
        self._set_state(given, manifest)
        ours = _own_options(given)
        common = manifest.options if manifest else {}
        names = given.all("--driver")
        if names:
            devices: list[tuple[str, dict[str, object]]] = [(name, {}) for name in names]
        else:
            devices = (manifest.devices if manifest else []) or [(SOFT, {})]
        self.ta_dirs: list[str] = []
        self.devices: list[tuple[str, dict[str, object]]] = []
        for name, own in devices:
            options = {"reg_mem": False, **common, **own, **ours}
            folders = options.get("ta_dirs", [])
            assert isinstance(folders, list)
            self.ta_dirs += [folder for folder in folders if folder not in self.ta_dirs]
            options["ta_dirs"] = [*folders, examples_folder()]
            if options.get("strict") and not options.get("keys"):
                raise _wrong("strict without a key accepts nothing", "add --key FILE")
            if options.get("strict") and options.get("allow_unsigned"):
                raise _wrong("strict and allow-unsigned contradict each other", "keep one")
            self.devices.append((name, options))

    def _set_state(self, given: "Given", manifest: "Manifest | None") -> None:
        if given.has("--state") and given.has("--ephemeral"):
            raise _wrong("--state and --ephemeral contradict each other", "give one of them")
        self.state = given.value("--state", "")
        self.ephemeral = given.has("--ephemeral")
        if given.has("--state"):
            if not self.state or "\0" in self.state:
                raise _wrong(f"--state {self.state!r} is no folder", "such as: --state ./state")
            self.state = os.path.abspath(self.state)
        elif manifest and not self.ephemeral:
            self.state = manifest.state
            self.ephemeral = manifest.ephemeral
        self.counter = given.value("--counter", manifest.counter if manifest else "")
        if given.has("--counter"):
            if not self.counter or "\0" in self.counter:
                raise _wrong(f"--counter {self.counter!r} is no file", "such as: --counter ./count")
            self.counter = os.path.abspath(self.counter)
        if self.counter and self.ephemeral:
            raise _wrong("a counter is of a state, and nothing is to be kept", "leave out one")

    @property
    def keeps_state(self) -> bool:
        """Whether any device has a use for a state folder."""
        return not self.ephemeral and any(name == SOFT for name, _options in self.devices)

    def drivers(self, state: str | None = None) -> "list[tuple[TeeDriver, dict[str, object]]]":
        """The drivers, loaded, with the options for their ``probe``.

        :param state: the TEE's locked state folder; None keeps nothing. The first software TEE has
            that folder, each further one a folder inside.
        :raises UserError: a driver cannot be loaded.
        """
        from gentee.core.registry import load_driver

        found = []
        count = 0
        for name, options in self.devices:
            options = dict(options)
            driver = load_driver(name)
            if name == SOFT and state is not None:
                count += 1
                options["state"] = state if count == 1 else _folder_inside(state, count)
                if self.counter:
                    options["counter"] = self.counter if count == 1 else f"{self.counter}-{count}"
            found.append((driver, options))
        return found

    def own_state(self, warn: "Callable[[str], None]") -> "StateDir | None":
        """The state folder, locked; None for a TEE that keeps nothing.

        :param warn: told in one line why nothing is kept, where nobody asked for that.
        :raises UserError: the folder that was named cannot be had.
        """
        if not self.keeps_state:
            return None
        from gentee.device.state_dir import DEFAULT_NAME, folder_of, own_state

        if self.state:
            return own_state(self.state)
        try:
            return own_state(folder_of(DEFAULT_NAME))
        except UserError as error:
            if self.counter:
                raise
            warn(f"{error.message}; this run keeps nothing")
            return None

    def tell_problems(self, warn: "Callable[[str], None]") -> None:
        """A line for each file in the named folders that wants to be a service and cannot."""
        if not self.ta_dirs:
            return
        from gentee.device.host import printable
        from gentee.secure.store import TaStore

        for problem in TaStore(self.ta_dirs).problems(images=False):
            warn(f"not offered: {printable(problem)}")


def drivers(given: "Given") -> "list[tuple[TeeDriver, dict[str, object]]]":
    """The drivers that were asked for, with their options; they keep nothing."""
    return Settings(given).drivers()


def _manifest(given: "Given") -> "Manifest | None":
    if not given.has("--manifest"):
        return None
    from gentee.cli.manifest import load

    return load(given.value("--manifest", ""))


def _log_level(given: "Given", manifest: "Manifest | None") -> int:
    if given.has("--quiet"):
        return 0
    level = given.value("--log-level", (manifest and manifest.log_level) or "debug")
    return 0 if level == "none" else LOG_LEVELS.index(level) + 1


def _own_options(given: "Given") -> dict[str, object]:
    """Options for ``probe`` that the command line has."""
    options = service_limits(given.value("--memory-limit", ""), given.value("--cpu-limit", ""))
    if given.has("--ta-dir"):
        options["ta_dirs"] = [service_folder(folder) for folder in given.all("--ta-dir")]
    if given.has("--symbols"):
        options["symbols"] = [symbol_folder(folder) for folder in given.all("--symbols")]
    if given.has("--key"):
        options["keys"] = given.all("--key")
    if given.has("--pseudo-ta"):
        options["pseudo_tas"] = given.all("--pseudo-ta")
    if given.has("--allow-net"):
        options["allow_net"] = _network_rules(given.all("--allow-net"))
    if given.has("--plugin-dir"):
        options["plugin_dirs"] = [plugin_folder(folder) for folder in given.all("--plugin-dir")]
    if given.has("--protected-memory"):
        options["protected_memory"] = _protected_memory(given.value("--protected-memory", ""))
    for flag, name in (
        ("--ta-enc-key", "ta_enc_key"),
        ("--ta-class-key", "ta_class_key"),
        ("--huk", "huk"),
        ("--tpm-event-log", "tpm_event_log"),
    ):
        if given.has(flag):
            options[name] = given.value(flag, "")
    for flag, name in (
        ("--strict", "strict"),
        ("--allow-unsigned", "allow_unsigned"),
        ("--reg-mem", "reg_mem"),
    ):
        if given.has(flag):
            options[name] = True
    return options


def _protected_memory(text: str) -> int:
    """MiB."""
    is_number = text.isascii() and text.isdigit()
    if not is_number or not 1 <= int(text) <= MOST_PROTECTED_MEMORY:
        raise _wrong(
            f"--protected-memory {text}: not a number of MiB from 1 to {MOST_PROTECTED_MEMORY}",
            "such as: --protected-memory 16",
        )
    return int(text)


def _folder_inside(state: str, number: int) -> str:
    path = os.path.join(state, f"{SOFT}-{number}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise UserError(f"state folder {path}: {error.strerror}") from error
    return path


def _wrong(message: str, hint: str) -> UserError:
    return UserError(message, hint, USAGE_STATUS)


def examples_folder() -> str:
    """The services that come with gentee."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.join(package, "examples")


def service_folder(folder: str) -> str:
    """``folder`` if it is one; UserError otherwise."""
    try:
        os.listdir(folder)
    except OSError as error:
        raise UserError(
            f"--ta-dir {folder}: {error.strerror}",
            "it wants a folder with services, files such as echo.py",
        ) from error
    return folder


def symbol_folder(folder: str) -> str:
    """``folder`` if it is one; UserError otherwise."""
    try:
        os.listdir(folder)
    except OSError as error:
        raise UserError(
            f"--symbols {folder}: {error.strerror}",
            "it wants a folder with unstripped ELF files, named UUID.elf",
        ) from error
    return folder


def plugin_folder(folder: str) -> str:
    """``folder``, from the root on, if it is one; UserError otherwise."""
    try:
        os.listdir(folder)
    except OSError as error:
        raise UserError(
            f"--plugin-dir {folder}: {error.strerror}",
            "it wants a folder with plugins of tee-supplicant, shared libraries",
        ) from error
    return os.path.abspath(folder)


def _network_rules(rules: list[str]) -> list[str]:
    from gentee.secure.normal_world.network import parse_rule

    for rule in rules:
        try:
            parse_rule(rule)
        except UserError as error:
            raise _wrong(error.message, error.hint or "") from None
    return rules


def service_limits(memory: str, cpu: str) -> dict[str, object]:
    """The driver's options for limits that were given; UserError for what is none."""
    limits: dict[str, object] = {}
    if memory:
        is_number = memory.isdecimal() and len(memory) < 10
        if not is_number or not LEAST_MEMORY <= int(memory) <= MOST_MEMORY:
            raise UserError(
                f"--memory-limit {memory}: not a number of MiB from {LEAST_MEMORY} up",
                "such as: --memory-limit 128",
                USAGE_STATUS,
            )
        limits["memory_limit"] = int(memory)
    if cpu:
        whole, _, part = cpu.partition(".")
        if not (whole + part).isdecimal() or len(cpu) > 9:
            raise UserError(
                f"--cpu-limit {cpu}: not a number of seconds",
                "such as: --cpu-limit 5; 0 for none",
                USAGE_STATUS,
            )
        limits["cpu_limit"] = float(cpu)
    return limits
