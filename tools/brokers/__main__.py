"""`python -m tools.brokers`: start, find and stop the brokers of the tests.

    up [NAME…]             start what does not run; `down` stops it
    down [NAME…]           stop
    status                 what runs, and where
    run [NAME…] -- COMMAND run a command beside brokers of its own, which end with it

Law: without a name, `up` and `run` start those of `make test`, `down` and `status` look at all that there are. `run`
starts none that `UNIMSG_TEST_<NAME>_URL` names, or that `up` started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.brokers.process import Running
from tools.brokers.services import HOME, KNOWN, SERVICES, begin, found, note


def up(names: Sequence[str]) -> None:
    """Start what does not run."""
    for name in names:
        running = found(name)
        if running is None:
            running = begin(name, HOME / name)
            note(name, running)
        show(name, running)


def down(names: Sequence[str]) -> None:
    """Stop what runs."""
    for name in names:
        running = found(name)
        if running is not None:
            running.stop()
            (HOME / name / "running.json").unlink()


def status(names: Sequence[str]) -> None:
    """Show what runs."""
    for name in names:
        show(name, found(name))


def show(name: str, running: Running | None) -> None:
    """Print where a broker is."""
    if running is None:
        print(f"{name}: not running")
    else:
        print(f"{name}: pid {', '.join(str(process.pid) for process in running.processes)}")
        for variable, value in running.environment.items():
            print(f"  {variable}={value}")


def run(names: Sequence[str], command: Sequence[str]) -> int:
    """Run a command beside brokers of its own; those that the environment names, or `up` started, are used instead."""
    environment = dict(os.environ)
    missing: list[str] = []
    for name in names:
        if f"UNIMSG_TEST_{name.upper()}_URL" in os.environ:
            continue
        running = found(name)
        if running is None:
            missing.append(name)
        else:
            environment |= running.environment
    HOME.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=HOME))
    started: list[Running] = []
    try:
        with ThreadPoolExecutor(max(1, len(missing))) as pool:
            beginnings = [pool.submit(begin, name, folder / name) for name in missing]
        started += [beginning.result() for beginning in beginnings if beginning.exception() is None]
        for beginning in beginnings:
            beginning.result()
        for running in started:
            environment |= running.environment
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        for running in started:
            running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """See above."""
    verbs = {"up": (up, SERVICES), "down": (down, KNOWN), "status": (status, KNOWN)}
    verb, *names = arguments or ("",)
    command: Sequence[str] | None = None
    if verb == "run" and "--" in names:
        at = names.index("--")
        names, command = names[:at], names[at + 1 :]
    if (verb not in verbs and command is None) or set(names) - set(KNOWN):
        print(f"{__doc__}\nNames: {', '.join(KNOWN)}.")
        return 2
    if command is not None:
        return run(names or SERVICES, command)
    act, usual = verbs[verb]
    act(names or usual)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
