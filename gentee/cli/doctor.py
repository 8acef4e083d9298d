# SPDX-License-Identifier: BSD-2-Clause
"""``gentee doctor``: what this machine has and lacks for ``gentee run``."""

import sys
from collections.abc import Sequence

from gentee.cli import probe_confinement, probes
from gentee.cli.options import Command, Option
from gentee.cli.probes import LIMITED, MISSING, OK, Check
from gentee.cli.terminal import Style
from gentee.device.host import printable
from gentee.device.trapped_root import WAY_NAMESPACE, WAY_OPEN

COMMAND = Command(
    "doctor",
    "Try what 'gentee run' needs, and say what is there, what is missing, and what to do.",
    [Option("--json", "for programs")],
)

_DETAILS = """\
ok        works
limited   gentee works without, but something is slower, smaller or different
missing   something cannot work

The exit status is 0 if 'gentee run' can work here, 1 if it cannot."""


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    way, checks = examine()
    if given.has("--json"):
        import json

        report = {"can_run": bool(way), "way": way or None, "checks": [vars(c) for c in checks]}
        print(json.dumps(report, indent=2))
    else:
        sys.stdout.write(_report(way, checks, Style(sys.stdout)))
    return 0 if way else 1


def examine() -> tuple[str, list[Check]]:
    """The way that ``auto`` takes (empty if none works), and all that was tried."""
    checks = [probes.kernel(), probes.machine(), probes.user()]
    if checks[1].result == MISSING:
        return "", checks
    checks += probes.notification()
    checks += probes.interruptions()
    checks.append(probes.namespace())
    ways = {way: probes.run_by_way(way) for way in (WAY_NAMESPACE, WAY_OPEN)}
    # As the trapped root decides: a namespace if one can be had, even if the rest then fails.
    auto = WAY_NAMESPACE if checks[-1].result == OK else WAY_OPEN
    if auto == WAY_OPEN and ways[WAY_OPEN].result == OK:
        ways[WAY_NAMESPACE].result = LIMITED
    checks += ways.values()
    way = auto if ways[auto].result == OK else ""
    checks.append(_auto(auto, bool(way)))
    checks += [
        probes.client_memory(),
        probes.shared_memory(),
        probes.watches(),
        probes.descriptors(),
        probes.pipes(),
        *probe_confinement.confinement(),
        probes.setuid_programs(auto),
        probes.real_devices(),
    ]
    return way, checks


def _auto(way: str, works: bool) -> Check:
    if not works:
        return Check("device way", MISSING, f"auto takes {way}, which fails: see above")
    if way == WAY_NAMESPACE:
        return Check("device way", OK, "auto takes namespace: programs see files in /dev")
    return Check(
        "device way",
        LIMITED,
        "auto takes open: opens of /dev/tee0 are answered, but ls and io_uring see nothing there, "
        "and each open of any file takes some microseconds more",
    )


def _report(way: str, checks: Sequence[Check], style: Style) -> str:
    colours = {OK: style.green, LIMITED: style.yellow, MISSING: style.red}
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        result = colours[check.result](f"{check.result:<7}")
        lines.append(f"{check.name:<{width}}  {result}  {printable(check.meaning)}")
        if check.advice:
            lines.append(f"{'':<{width}}           {style.dim('-> ' + printable(check.advice))}")
    verdict = style.green("can work") if way else style.red("cannot work")
    lines += ["", f"'gentee run' {verdict} here."]
    return "\n".join(lines) + "\n"
