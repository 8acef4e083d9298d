# SPDX-License-Identifier: BSD-2-Clause
"""Benchmarks of services as such: their memory, their birth and end, and many of them."""

import os
import subprocess
import sys
import uuid
from functools import partial
from pathlib import Path

from tests.performance.measuring import HERE, IDLE, MIB, ROOT, Client, Measuring, Row, progress

SINGLE = "0d0f9a56-5f0b-4c3a-9a52-7f0d9c1b6e02"  # one instance at a time
INSTANCES = 200
MEMORY_BUDGET = 8.0  # MiB of an instance
_NEEDED = 12 * MIB  # free memory wanted for each instance, before many are made


WARM_PARENTS = ("gentee-warm", "gentee-warm-arm")


class BareFork:
    """tests/performance/bare_fork.py: children of a warm parent that end at once."""

    def __init__(self) -> None:
        argv = [sys.executable, str(HERE / "bare_fork.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def ask(self, count: int) -> float:
        """Nanoseconds of one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        return float(self._process.stdout.readline() or "nan")

    def close(self) -> None:
        self._process.communicate(timeout=10)


def services_of(supervisor: int) -> list[int]:
    """The processes of services: children of the warm parent that have the name of one."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(encoding="utf-8")
        except OSError:  # it ended meanwhile
            continue
        pid = int(folder.name)
        name, _, rest = text.partition(" (")[2].rpartition(") ")
        names[pid] = name
        parents[pid] = int(rest.split()[1])
    warm = {pid for pid, up in parents.items() if up == supervisor and names[pid] in WARM_PARENTS}
    services = {pid for pid in parents if names[pid].startswith("ta:")}
    # Also those that are forks of a template, which is such a process itself.
    return [pid for pid in services if parents[pid] in warm or parents[pid] in services]


def private_memory(pid: int) -> tuple[float, str]:
    """MiB of private memory of a process, and what the figure is."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except PermissionError:
        # Services are not dumpable, so that only root may read that. This one counts the pages that
        # are still shared with the warm parent as well.
        words = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        pages = int(words[1]) - int(words[2])
        return pages * os.sysconf("SC_PAGESIZE") / MIB, "RssAnon, with pages of the warm parent"
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(kilobytes) / 1024, "private"


def fitting(wanted: int) -> int:
    """How many instances there is memory for."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return min(wanted, int(line.split()[1]) * 1024 // _NEEDED)
    return wanted


class ServiceRows(Measuring):
    """Each instance is a process."""

    def memory(self) -> None:
        """Private memory of 200 instances that are alive at once."""
        with self._gentee(f"sessions {IDLE} {INSTANCES}") as gentee:
            gentee.ask(f"invoke 0 {2 * INSTANCES} {INSTANCES}")
            figures = [private_memory(pid) for pid in services_of(gentee.pid)]
            if len(figures) != INSTANCES:
                raise RuntimeError(f"{len(figures)} services are alive, not {INSTANCES}")
        most, kind = max(figures)
        what = f"memory of an instance ({kind}), the most of {INSTANCES}"
        ratio = most / MEMORY_BUDGET
        budget = f"{MEMORY_BUDGET:g} MiB"
        self._row(Row("memory", what, "idle", most, "MiB", MEMORY_BUDGET, budget, ratio, 1))

    def birth(self) -> None:
        """Open and close with a new instance, up to its end."""
        # The service has one instance at a time, so each open waits until the process of the one
        # before has ended: the end is part of the figure.
        fork = BareFork()
        try:
            with self._gentee(f"session {SINGLE} 5") as gentee:
                mine, theirs = self._alternate(
                    lambda: gentee.ask(f"session {SINGLE} 20"),
                    lambda: fork.ask(20),
                    seconds=8,
                )
        finally:
            fork.close()
        what = "open + close with a new instance, and its end"
        against = "fork + exit of the warm parent"
        self._add("birth", what, "idle", mine, theirs, against, budget=3)

    def task(self) -> None:
        """TEE_IOC_TASK against open, invoke and close less one round trip."""
        with self._gentee(f"session {SINGLE} 5") as gentee:
            for what, service in (("a new instance", SINGLE), ("an instance of its own", IDLE)):
                tasks, visits, trips = self._alternate(
                    partial(gentee.ask, f"task {service} 0 20"),
                    partial(gentee.ask, f"visit {service} 0 20"),
                    partial(gentee.ask, "version 500"),
                    seconds=8,
                )
                less = [visit - trip for visit, trip in zip(visits, trips, strict=True)]
                against = "open + invoke + close - VERSION"
                self._add("task", f"task, {what}", "idle", tasks, less, against, budget=1.05)

    def installed(self) -> None:
        """Calls and opens with 1, 100 and 1,000 services installed."""
        makers = {count: self._state(count) for count in (1, 100, 1000)}
        clients: dict[int, Client] = {}
        try:
            for count, (folder, key, service) in makers.items():
                client = self._gentee(state=str(folder), keys=[str(key)], strict=True)
                clients[count] = client
                client.ask(f"session {service} 5")
                client.ask(f"sessions {service} 1")
            service = makers[1][2]
            for line, what, unit, scale in (
                ("invoke 0 2000 1", "invoke", "us", 1e-3),
                (f"session {service} 20", "open + close", "ms", 1e-6),
            ):
                one, hundred, thousand = self._alternate(
                    *(partial(client.ask, line) for client in clients.values()),
                    seconds=8,
                )
                for count, samples in ((100, hundred), (1000, thousand)):
                    self._add(
                        "installed",
                        f"{what}, {count} services installed",
                        "idle",
                        samples,
                        one,
                        "1 installed",
                        unit=unit,
                        scale=scale,
                        budget=1.1,
                    )
        finally:
            for client in clients.values():
                client.__exit__(None, None, None)

    def _state(self, count: int) -> tuple[Path, Path, str]:
        """A state folder with as many signed services; the key's file; the first one's UUID."""
        from gentee.secure import images, package
        from gentee.secure.keys import AcceptedKeys, generate_key, load_private_key
        from gentee.secure.service import describe
        from gentee.secure.state import State
        from gentee.secure.store import TaStore

        key_file = self._folder / "key.pem"
        if not key_file.exists():
            generate_key(str(key_file), 2048)
        key = load_private_key(str(key_file))
        public = self._folder / "key.pub.pem"
        if not public.exists():
            argv = ["openssl", "pkey", "-in", str(key_file), "-pubout", "-out", str(public)]
            subprocess.run(argv, check=True)
        folder = self._folder / f"state-{count}"
        folder.mkdir(mode=0o700)
        store = TaStore((), state=State(str(folder)), keys=AcceptedKeys([str(public)], strict=True))
        text = (HERE / "services" / "idle.py").read_text(encoding="utf-8")
        first = ""
        for number in range(count):
            name = str(uuid.uuid5(uuid.UUID(IDLE), str(number)))
            first = first or name
            source = text.replace(IDLE, name).encode()
            service = describe("idle.py", source)
            assert service is not None
            payload = package.write("idle.py", service, {"idle.py": source})
            store.install(images.sign(payload, key, service.uuid, 1))
        store.close()
        return folder, public, first

    def alive(self) -> None:
        """Calls to one of 1, 100 and 1,000 instances."""
        many = fitting(1000)
        if many < 1000:
            progress(f"  memory for {many} instances only")
        counts = (1, 100, many)
        clients: list[Client] = []
        try:
            for count in counts:
                clients.append(self._gentee(f"sessions {IDLE} {count}"))
            one, hundred, thousand = self._alternate(
                *(partial(client.ask, "invoke 0 2000 1") for client in clients),
                seconds=8,
            )
        finally:
            for client in clients:
                client.__exit__(None, None, None)
        for count, samples in ((100, hundred), (many, thousand)):
            what = f"invoke, {count} instances alive"
            self._add("alive", what, "idle", samples, one, "1 alive", budget=1.1)

    def joined(self) -> None:
        """The calls of a program that joined a TEE, against those of its first program."""
        command = [sys.executable, "-m", "gentee"]
        state = self._folder / "joined"
        state.mkdir(mode=0o700)
        reader, writer = os.pipe()
        options = ["--state", str(state), "--ta-dir", f"{HERE}/services", "-q"]
        argv = [*command, "serve", *options, "--ready-fd", str(writer)]
        with subprocess.Popen(argv, cwd=ROOT, pass_fds=[writer]) as server:
            os.close(writer)
            with open(reader, encoding="ascii") as ready:
                is_ready = bool(ready.readline())
            try:
                if not is_ready:
                    raise RuntimeError("not available: 'gentee serve' did not start")
                self._joined_rows([*command, "run", "--tee", str(state), "--"])
            finally:
                server.terminate()
                server.wait(10)

    def _joined_rows(self, join: list[str]) -> None:
        with (
            self._gentee(f"sessions {IDLE} 1") as first,
            Client(join, self._client) as joined,
        ):
            joined.ask_all("contexts /dev/tee0 1", f"sessions {IDLE} 1")
            for noun, line in (
                ("TEE_IOC_VERSION", "version 5000"),
                ("invoke, no parameters", "invoke 0 2000 1"),
            ):
                mine, theirs = self._alternate(
                    partial(joined.ask, line), partial(first.ask, line), seconds=6
                )
                what = f"{noun}, joined program"
                self._add("joined", what, "idle", mine, theirs, "the first one", budget=1.3)
