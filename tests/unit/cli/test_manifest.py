# SPDX-License-Identifier: BSD-2-Clause
"""Manifests: what they say, what is wrong with them and where, what the command line changes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gentee.cli import manifest
from gentee.cli.options import Command
from gentee.cli.tee_options import LOG_LEVELS, TEE_OPTIONS, Settings, drivers, examples_folder
from gentee.drivers.loopback import driver as loopback
from gentee.drivers.soft import driver as soft
from gentee.errors import UserError

COMMAND = Command("run", "Run.", TEE_OPTIONS, "-- PROGRAM")


def parse(text: str, path: str = "/etc/tee/tee.toml") -> manifest.Manifest:
    return manifest.parse(path, text.encode())


def error_of(text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def settings_of(tmp_path: Path) -> Any:
    """``settings_of(text, *arguments)``: a manifest, and what the command line adds."""

    def settings_of(text: str, *arguments: str) -> Settings:
        path = tmp_path / "tee.toml"
        path.write_text(text)
        return Settings(COMMAND.parse(["--manifest", str(path), *arguments]))

    return settings_of


# What it says.


def test_an_empty_one() -> None:
    made = parse("# nothing\n")
    assert made.devices == []
    assert made.options == {}
    assert (made.state, made.group, made.log_level, made.ephemeral) == ("", "", "", False)


def test_paths_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "sub").mkdir()
    text = f"""
        ta-dirs = ["../services", "{tmp_path}"]
        symbols = ["../services"]
        keys = ["a.pem", "/etc/b.pem"]
        ta-enc-key = "enc.key"
        ta-class-key = "../class.key"
        allow-unsigned = true
        state = "../state/./x"
    """
    made = parse(text, str(tmp_path / "sub" / "tee.toml"))
    assert made.options["ta_dirs"] == [str(tmp_path / "services"), str(tmp_path)]
    assert made.options["symbols"] == [str(tmp_path / "services")]
    assert made.options["keys"] == [str(tmp_path / "sub" / "a.pem"), "/etc/b.pem"]
    assert made.options["ta_enc_key"] == str(tmp_path / "sub" / "enc.key")
    assert made.options["ta_class_key"] == str(tmp_path / "class.key")
    assert made.options["allow_unsigned"] is True
    assert made.state == str(tmp_path / "state" / "x")


def test_the_normal_world(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    text = """
        allow-net = ["loopback", "[::1]:80"]
        plugin-dirs = ["plugins"]
    """
    made = parse(text, str(tmp_path / "tee.toml"))
    assert made.options["allow_net"] == ["loopback", "[::1]:80"]
    assert made.options["plugin_dirs"] == [str(tmp_path / "plugins")]
    for wrong, words in (
        ('allow-net = "loopback"', "wants a list of loopback or HOST:PORT"),
        ('allow-net = ["everywhere"]', "everywhere: neither loopback nor HOST:PORT"),
        ("allow-net = [1]", "wants text"),
        ('plugin-dirs = ["/nowhere/at/all"]', "/nowhere/at/all: No such file"),
    ):
        assert words in error_of(wrong).message


def test_what_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "tpm.log").write_bytes(b"events")
    text = 'protected-memory = 4\ntpm-event-log = "tpm.log"'
    made = parse(text, str(tmp_path / "tee.toml"))
    assert made.options["protected_memory"] == 4
    assert made.options["tpm_event_log"] == str(tmp_path / "tpm.log")
    for wrong in ("protected-memory = 0", "protected-memory = 1025", 'protected-memory = "4"'):
        assert "MiB" in error_of(wrong).message
    assert "wants text" in error_of("tpm-event-log = 4").message


def test_devices_come_before_what_is_said_for_all(settings_of: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    found = settings_of(
        """
        reg-mem = true
        limits = { memory = 32, cpu = 1.5, instances = 7 }
        [[device]]
        driver = "soft"
        [[device]]
        driver = "soft"
        reg-mem = false
        ta-dirs = ["mine"]
        [device.limits]
        memory = 48
        """
    )
    (one, first), (other, second) = found.devices
    assert one == other == "soft"
    limits = {"cpu_limit": 1.5, "max_instances": 7}
    assert first == {
        "reg_mem": True, "memory_limit": 32, "ta_dirs": [examples_folder()], **limits
    }  # fmt: skip
    mine = str(tmp_path / "mine")
    assert second == {
        "reg_mem": False, "memory_limit": 48, "ta_dirs": [mine, examples_folder()], **limits
    }  # fmt: skip
    assert found.ta_dirs == [mine]


def test_a_plug_in_gets_what_it_is_given(settings_of: Any) -> None:
    found = settings_of(
        """
        reg-mem = true
        [[device]]
        driver = "acme"
        options = { board = "x", retries = 3, deep = { list = [1, 2.5, true] } }
        """
    )
    ((name, options),) = found.devices
    assert name == "acme"
    assert options["reg_mem"] is True
    assert options["board"] == "x"
    assert options["deep"] == {"list": [1, 2.5, True]}
    assert not found.keeps_state  # of that driver nothing is known


@pytest.mark.parametrize("level", [*LOG_LEVELS, "none"])
def test_log_level(settings_of: Any, level: str) -> None:
    found = settings_of(f'log-level = "{level}"')
    assert found.log_level == ("none", *LOG_LEVELS).index(level)


# What the command line changes.


def test_without_a_manifest() -> None:
    found = Settings(COMMAND.parse([]))
    assert found.devices == [("soft", {"reg_mem": False, "ta_dirs": [examples_folder()]})]
    assert (found.state, found.ephemeral, found.keeps_state) == ("", False, True)
    assert (found.log_level, found.verbose, found.group) == (3, False, "")


def test_the_command_line_wins(settings_of: Any, tmp_path: Path) -> None:
    for name in ("theirs", "mine"):
        (tmp_path / name).mkdir()
    text = """
        ta-dirs = ["theirs"]
        keys = ["theirs.pem"]
        limits = { memory = 32, cpu = 5 }
        state = "theirs"
        log-level = "error"
        [[device]]
        driver = "loopback"
        limits = { memory = 33 }
    """
    mine = str(tmp_path / "mine")
    found = settings_of(
        text,
        *("--ta-dir", mine, "--key", "mine.pem", "--memory-limit", "64", "--reg-mem", "--strict"),
        *("--log-level", "flow", "--state", "x"),
        *("--ta-enc-key", "enc.key", "--ta-class-key", "class.key"),
    )
    assert found.devices == [
        (
            "loopback",
            {
                "ta_dirs": [mine, examples_folder()],
                "keys": ["mine.pem"],
                "memory_limit": 64,
                "cpu_limit": 5.0,
                "reg_mem": True,
                "strict": True,
                "ta_enc_key": "enc.key",
                "ta_class_key": "class.key",
            },
        )
    ]
    assert found.state == str(Path.cwd() / "x")
    assert found.log_level == 4
    assert settings_of(text, "--quiet").log_level == 0
    names = [name for name, _ in settings_of(text, "--driver", "soft", "--driver", "x").devices]
    assert names == ["soft", "x"]
    found = settings_of(text, "--ephemeral")
    assert (found.ephemeral, found.state) == (True, "")
    found = settings_of("ephemeral = true", "--state", "x")
    assert (found.ephemeral, found.state) == (False, str(Path.cwd() / "x"))


def test_drivers_are_loaded() -> None:
    found = drivers(COMMAND.parse(["--driver", "loopback", "--driver", "soft"]))
    assert [driver for driver, _options in found] == [loopback, soft]
    assert all("state" not in options for _driver, options in found)


def test_the_state_is_the_software_tees(tmp_path: Path) -> None:
    given = COMMAND.parse(["--driver", "loopback", "--driver", "soft", "--driver", "soft"])
    found = Settings(given).drivers(str(tmp_path))
    states = [options.get("state") for _driver, options in found]
    assert states == [None, str(tmp_path), str(tmp_path / "soft-2")]
    # What is made for one run is not left in the settings.
    assert all("state" not in options for _driver, options in Settings(given).drivers())


def test_strict_without_a_key(settings_of: Any) -> None:
    with pytest.raises(UserError, match="strict without a key"):
        settings_of("strict = true")
    assert settings_of("strict = true", "--key", "x.pem").devices[0][1]["strict"] is True


def test_unsigned_has_to_be_asked_for(settings_of: Any) -> None:
    assert "allow_unsigned" not in settings_of("").devices[0][1]
    assert settings_of("", "--allow-unsigned").devices[0][1]["allow_unsigned"] is True
    with pytest.raises(UserError, match="strict and allow-unsigned contradict"):
        settings_of("strict = true\nkeys = ['x']", "--allow-unsigned")
    with pytest.raises(UserError, match="strict and allow-unsigned contradict"):
        settings_of("allow-unsigned = true", "--strict", "--key", "x")


# What is wrong.

WRONG = [
    ("keyz = []", "line 1: unknown key 'keyz'", "did you mean keys?"),
    ("ta_dirs = []", "line 1: unknown key 'ta_dirs'", "did you mean ta-dirs?"),
    ("\n[limits]\n# memory\nmemry = 64", "line 4: unknown key 'memry'", "did you mean memory?"),
    ("[device]\ndriver = 'soft'", "line 1: device wants tables", "write [[device]] before each"),
    ("device = [1]", "line 1: device wants tables", ""),
    ("[[device]]\nreg-mem = true", "line 1: a device without driver", 'driver = "soft"'),
    (
        "[[device]]\ndriver = 'soft'\n\n[[device]]\ndriver = 'soft'\ndrivr = 1",
        "line 6: unknown key 'drivr'",
        "did you mean driver?",
    ),
    (
        "[[device]]\ndriver = 'soft'\n[device.limits]\ncpu = 1\n[[device]]\ndriver = 'soft'\n"
        "[device.limits]\ncpu = 'x'",
        "line 8: cpu wants a number of seconds from 0 to 999999999, not text",
        "",
    ),
    ("[[device]]\ndriver = 3", "line 2: driver wants text, not a whole number", ""),
    ("[[device]]\ndriver = 'soft'\noptions = {}", "line 3: driver soft takes no options", ""),
    ("[[device]]\ndriver = 'x'\noptions = 1", "line 3: options wants a table", ""),
    ("[[device]]\ndriver = 'soft'\nstate = 'x'", "line 3: unknown key 'state'", ""),
    ("limits = 3", "line 1: limits wants a table, not a whole number", ""),
    ("limits.memory = 1", "line 1: memory wants a number of MiB from 16 to 1048575", ""),
    ("limits = { memory = true }", "memory wants a number of MiB from 16 to 1048575, not true", ""),
    ("limits.memory = 64.0", "line 1: memory wants a number of MiB", ""),
    ("limits.cpu = -1", "line 1: cpu wants a number of seconds", ""),
    ("limits.cpu = nan", "line 1: cpu wants a number of seconds", ""),
    ("limits.cpu = inf", "line 1: cpu wants a number of seconds", ""),
    ("limits.instances = 0", "line 1: instances wants a number of instances from 1", ""),
    ("strict = 1", "line 1: strict wants true or false, not a whole number", ""),
    ("strict = 'yes'", "line 1: strict wants true or false, not text", ""),
    ("keys = 'a.pem'", "line 1: keys wants a list of paths, not text", ""),
    ("keys = [\n  'a.pem',\n  7,\n]", "line 1: keys wants text, not a whole number", ""),
    ("keys = ['']", "line 1: keys cannot be ''", ""),
    ('keys = ["a\\u0000b"]', "line 1: keys cannot be 'a\\x00b'", ""),
    ("ta-dirs = ['nowhere']", "line 1: /etc/tee/nowhere: No such file or directory", "folder"),
    ("symbols = ['nowhere']", "line 1: /etc/tee/nowhere: No such file or directory", "UUID.elf"),
    ("state = 1979-05-27", "line 1: state wants text, not 1979-05-27", ""),
    ("state = 'x'\nephemeral = true", "line 2: state and ephemeral contradict", ""),
    ("log-level = 'all'", "line 1: log-level cannot be 'all'", "it can be none, error"),
    ("group = ''", "line 1: group cannot be ''", ""),
    ("keys = [", "Invalid", "docs/manifest.md"),
    ("keys = []\nkeys = 1 1", "at line 2", "docs/manifest.md"),
    ("\ufeffkeys = []", "Invalid", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG)
def test_what_is_wrong(text: str, message: str, hint: str) -> None:
    error = error_of(text)
    assert error.message.startswith("manifest /etc/tee/tee.toml")
    assert message in error.message
    assert hint in (error.hint or "")


def test_too_many_devices() -> None:
    one = "[[device]]\ndriver = 'soft'\n"
    assert len(parse(one * manifest.MAX_DEVICES).devices) == manifest.MAX_DEVICES
    assert "more than 16" in error_of(one * (manifest.MAX_DEVICES + 1)).message


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nowhere", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(UserError, match=message):
            manifest.load(str(path))
    path = tmp_path / "large"
    path.write_bytes(b"#" * (manifest.MAX_SIZE + 1))
    with pytest.raises(UserError, match="larger than"):
        manifest.load(str(path))
    path.write_bytes(b"# \xff")
    with pytest.raises(UserError, match="not UTF-8, at byte 2"):
        manifest.load(str(path))


def test_nested_deeply() -> None:
    with pytest.raises(UserError):
        parse("x = " + "[" * 100_000)


WORDS = st.sampled_from(
    ["keys", "ta-dirs", "strict", "limits", "memory", "cpu", "device", "driver", "soft", "state",
     "options", "group", "log-level", "ephemeral", "reg-mem", "=", "[", "]", "[[", "]]", "{", "}",
     ".", ",", '"', "'", '"""', "\n", " ", "true", "1", "-1", "nan", "1e400", "0x10", "#", "\\"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.lists(WORDS, max_size=40).map(" ".join), st.text()))
@example("x = " + "9" * 5000)
def test_any_text(text: str) -> None:
    """It is a manifest, or one plain error."""
    try:
        parse(text)
    except UserError:
        return
    assert tomllib.loads(text).keys() <= {
        "ta-dirs", "keys", "strict", "state", "ephemeral", "group", "log-level", "limits",
        "device", "reg-mem", "symbols", "ta-enc-key", "ta-class-key", "allow-unsigned",
    }  # fmt: skip
