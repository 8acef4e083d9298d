# SPDX-License-Identifier: BSD-2-Clause
"""Finding specific drivers by name: gentee's own, and plug-ins.

A third party's driver is found through the entry-point group ``gentee.drivers`` of its installed
distribution (Python packaging's "Entry points specification"). The entry names an object of
:class:`~gentee.core.driver.TeeDriver` or a subclass of it that takes no arguments::

    [project.entry-points."gentee.drivers"]
    acme = "acme_tee:driver"

A plug-in cannot take the name of a driver of gentee's own: who says ``soft`` gets that.
"""

import importlib

from gentee.core.driver import TeeDriver
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from typing import Any

GROUP = "gentee.drivers"

# Names of modules, not imports: core knows no driver, and who runs one does not load the others.
# Each module has a ``driver``.
BUILTIN = {
    "soft": "gentee.drivers.soft",
    "loopback": "gentee.drivers.loopback",
}


def available_drivers() -> list[str]:
    """The names that :func:`load_driver` knows, gentee's own first. Nothing is loaded."""
    plugins = {entry.name for entry in _entry_points()}
    return [*BUILTIN, *sorted(plugins.difference(BUILTIN))]


def load_driver(name: str) -> TeeDriver:
    """The driver of this name.

    :raises UserError: unknown name, two plug-ins of that name, or one that cannot be loaded.
    """
    module = BUILTIN.get(name)
    if module is not None:
        try:
            found = importlib.import_module(module).driver
        except ImportError as error:
            raise UserError(f"driver {name!r} cannot be loaded: {error}") from error
        return _as_driver(name, found)
    entry = _entry_point(name)
    try:
        return _as_driver(name, entry.load())
    except UserError:
        raise
    except Exception as error:  # somebody else's module: anything can come out of it
        raise UserError(
            f"driver {name!r} cannot be loaded: {type(error).__name__}: {error}",
            hint=f"it is {entry.value}, from {_distribution(entry)}",
        ) from error


def _entry_points() -> list["EntryPoint"]:
    # Costs more than all else that a start of the program imports, so only who needs it pays.
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _entry_point(name: str) -> "EntryPoint":
    """The plug-in of this name."""
    # The same distribution can be found twice, in two folders of sys.path.
    entries = {entry.value: entry for entry in _entry_points() if entry.name == name}
    if not entries:
        raise UserError(f"no driver {name!r}", hint=f"there are: {', '.join(available_drivers())}")
    if len(entries) > 1:
        owners = " and ".join(sorted(_distribution(entry) for entry in entries.values()))
        raise UserError(f"driver {name!r} is in {owners}", hint="uninstall all but one of them")
    return next(iter(entries.values()))


def _distribution(entry: "EntryPoint") -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"


def _as_driver(name: str, found: "Any") -> TeeDriver:
    driver = found() if isinstance(found, type) and issubclass(found, TeeDriver) else found
    if not isinstance(driver, TeeDriver):
        raise UserError(f"driver {name!r} cannot be loaded: {found!r} is no TeeDriver")
    return driver
