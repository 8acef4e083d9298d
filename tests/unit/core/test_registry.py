# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.registry: own drivers, plug-ins as pip installs them, and what goes wrong."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gentee.core.driver import TeeDriver
from gentee.core.registry import BUILTIN, available_drivers, load_driver
from gentee.errors import UserError

DRIVER = """
from gentee.core.driver import TeeDriver


class Acme(TeeDriver):
    name = "acme"

    def probe(self, host, options):
        return ()


driver = Acme()
"""

Install = Callable[[str, dict[str, str], str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay a distribution out as pip does: its module, its METADATA, its entry points."""
    before = set(sys.modules)

    def install(distribution: str, entries: dict[str, str], source: str) -> Path:
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{distribution}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[gentee.drivers]", *lines, ""]))
        monkeypatch.syspath_prepend(site)
        return site

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("acme"):
            del sys.modules[name]


def test_loopback() -> None:
    driver = load_driver("loopback")
    assert isinstance(driver, TeeDriver)
    assert driver.name == "loopback"


def test_own_drivers_come_first(install: Install) -> None:
    install("acme_tee", {"acme": "acme_tee:driver", "zz": "x:y", "loopback": "x:y"}, DRIVER)
    names = available_drivers()
    assert names[: len(BUILTIN)] == list(BUILTIN)
    assert names[len(BUILTIN) :] == sorted(names[len(BUILTIN) :])
    assert {"acme", "zz"} <= set(names)
    assert names.count("loopback") == 1


def test_plugin_by_object_and_by_class(install: Install) -> None:
    install("acme_tee", {"acme": "acme_tee:driver", "acme2": "acme_tee:Acme"}, DRIVER)
    for name in ("acme", "acme2"):
        assert load_driver(name).name == "acme"
    assert load_driver("acme") is load_driver("acme")


def test_plugin_cannot_take_an_own_name(install: Install) -> None:
    install("acme_tee", {"loopback": "acme_tee:driver"}, DRIVER)
    assert load_driver("loopback").name == "loopback"


def test_unknown_name(install: Install) -> None:
    install("acme_tee", {"acme": "acme_tee:driver"}, DRIVER)
    with pytest.raises(UserError) as caught:
        load_driver("optee")
    assert caught.value.message == "no driver 'optee'"
    assert caught.value.hint is not None
    for name in (*BUILTIN, "acme"):
        assert name in caught.value.hint


@pytest.mark.parametrize(
    ("value", "source", "reason"),
    [
        ("acme_tee:driver", "import acme_missing", "ModuleNotFoundError: No module named"),
        ("acme_tee:driver", "1 / 0", "ZeroDivisionError: division by zero"),
        ("acme_tee:driver", "driver =", "SyntaxError: invalid syntax"),
        ("acme_tee:drivers", DRIVER, "AttributeError"),
        ("acme_nothing:driver", DRIVER, "ModuleNotFoundError"),
        ("acme_tee:driver", "driver = 5", "5 is no TeeDriver"),
        ("acme_tee:driver", "class driver: pass", "is no TeeDriver"),
        ("acme_tee:TeeDriver", DRIVER, "TypeError: Can't instantiate"),
    ],
)
def test_plugin_that_cannot_be_loaded(
    install: Install, value: str, source: str, reason: str
) -> None:
    install("acme_tee", {"acme": value}, source)
    assert "acme" in available_drivers()  # the list loads nothing
    with pytest.raises(UserError) as caught:
        load_driver("acme")
    assert caught.value.message.startswith("driver 'acme' cannot be loaded: ")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


def test_own_driver_that_lacks_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN, "soft", "gentee.drivers.nothing_of_that_name")
    with pytest.raises(UserError, match=r"^driver 'soft' cannot be loaded: No module named"):
        load_driver("soft")


def test_two_plugins_of_one_name(install: Install) -> None:
    install("acme_one", {"acme": "acme_one:driver"}, DRIVER)
    install("acme_two", {"acme": "acme_two:driver"}, DRIVER)
    with pytest.raises(UserError) as caught:
        load_driver("acme")
    assert caught.value.message == "driver 'acme' is in acme_one and acme_two"


def test_one_plugin_found_twice(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install("acme_tee", {"acme": "acme_tee:driver"}, DRIVER)
    again = site.with_name("again")
    again.symlink_to(site)
    monkeypatch.syspath_prepend(again)
    assert load_driver("acme").name == "acme"


def test_importing_is_cheap() -> None:
    """Neither drivers nor importlib.metadata are loaded before somebody asks for them."""
    code = (
        "import sys, gentee.core.registry as registry\n"
        "early = [name for name in sys.modules if name.startswith('gentee.drivers')]\n"
        "registry.load_driver('loopback')\n"
        "print(early, 'importlib.metadata' in sys.modules, 'gentee.drivers.soft' in sys.modules)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] False False\n"
