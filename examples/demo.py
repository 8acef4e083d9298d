# SPDX-License-Identifier: BSD-2-Clause
"""``make demo``: compile a client of trusted services, run it under gentee, and tell the story."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CLIENT = HERE / "clients" / "echo_client.c"
KEYSTORE_CLIENT = HERE / "clients" / "keystore_client.c"
INCLUDE = ROOT / "gentee" / "include"  # gentee include-dir
TEXT = "Hello from the normal world"

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def in_colour(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def say(text: str = "") -> None:
    print(text, flush=True)  # what the programs print has to come after it


def step(text: str) -> None:
    say(in_colour("1", text))


def command(text: str) -> None:
    say(in_colour("36", f"  $ {text}"))


def give_up(problem: str, advice: str) -> int:
    print(f"demo: {problem}\n      {advice}", file=sys.stderr)
    return 1


def compile_client(compiler: str, program: Path, source: Path, *flags: str) -> bool:
    arguments = [compiler, "-O2", *flags, "-o", str(program), str(source)]
    return subprocess.run(arguments).returncode == 0


def run_client(program: Path, word: str) -> int:
    """Under gentee: its standard output is the client's, its standard error the services' log."""
    environment = dict(os.environ)
    # So that it works without being installed, too.
    paths = [str(ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    gentee = [sys.executable, "-m", "gentee", "run", "--", str(program), word]
    return subprocess.run(gentee, env=environment).returncode


def main() -> int:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return give_up(
            "there is no C compiler", "on Debian or Ubuntu: apt-get install gcc libc6-dev"
        )

    step("1. A client of a TEE, in C, that knows <linux/tee.h> and nothing of gentee")
    with tempfile.TemporaryDirectory(prefix="gentee-demo-") as folder:
        program = Path(folder) / "echo_client"
        command(f"cc -o echo_client {CLIENT.relative_to(ROOT)}")
        keystore = Path(folder) / "keystore_client"
        if not (
            compile_client(compiler, program, CLIENT)
            and compile_client(compiler, keystore, KEYSTORE_CLIENT, f"-I{INCLUDE}")
        ):
            return give_up(
                "the client did not compile", "is linux/tee.h there? (Debian: linux-libc-dev)"
            )
        say()
        step("2. It opens /dev/tee0 and talks to two trusted services")
        command(f'gentee run -- ./echo_client "{TEXT}"')
        status = run_client(program, TEXT)
        say()
        if not status:
            step("3. A key that a service keeps and uses: each step is one call of <gentee/tee.h>")
            command("gentee run -- ./keystore_client demo")
            status = run_client(keystore, "demo")
            say()
    if status:
        return give_up(
            f"the client ended with status {status}", "'gentee doctor' tells what is missing"
        )

    step("What happened")
    say("  No kernel module, no TEE hardware: gentee answered each ioctl of the client.")
    say("  The services, gentee/examples/echo.py and counter.py, ran in processes of their own;")
    say("  the lines in brackets are their log. Echo read and wrote the client's own pages.")
    say("  It is software: it keeps services and clients apart, and hides nothing from you.")
    say()
    step("Try next")
    gentee = gentee_command()
    width = len(gentee) + 16
    for what, why in (
        ("ls", "the services that there are"),
        ("doctor", "what this machine can do"),
        ("run -- sh", "a shell in which everything sees /dev/tee0"),
    ):
        say(f"  {in_colour('36', f'{gentee} {what}'.ljust(width))} {why}")
    say("  README.md shows how to write a service in 20 lines.")
    return 0


def gentee_command() -> str:
    """How the reader can call gentee here."""
    beside = Path(sys.executable).with_name("gentee")
    if not beside.exists():
        return "python3 -m gentee"
    return str(beside.relative_to(ROOT)) if beside.is_relative_to(ROOT) else str(beside)


if __name__ == "__main__":
    raise SystemExit(main())
