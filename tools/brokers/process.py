"""Processes and ports: what every broker needs to be started, found again and stopped.

Law: knows no broker. A process is stopped by its pid, and only while it is the one that was started: pids come again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PATIENCE = 90.0
"""Seconds that a broker may take to answer; a restart after a crash recovers its log first."""


class Process(NamedTuple):
    """A process that was started here.

    Attributes:
        name: for people.
        pid: its number, and
        born: when it was started, as `ps` says it: both together name it.
    """

    name: str
    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether it is still the one that was started."""
        return bool(self.born) and birth(self.pid) == self.born

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, and return when it is gone."""
        self.signal(signal.SIGKILL)
        self._wait(10.0)

    def stop(self, patience: float = 10.0) -> None:
        """Ask it to end, end it at once when it does not, and return when it is gone."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if not self._wait(patience):
            self.kill()

    def _wait(self, patience: float) -> bool:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            if not self.alive:
                return True
            time.sleep(0.02)
        return False


class Running(NamedTuple):
    """A broker that answers.

    Attributes:
        environment: what tells the tests where it is.
        processes: what to stop.
    """

    environment: Mapping[str, str]
    processes: Sequence[Process]

    def stop(self) -> None:
        """End its processes."""
        for process in self.processes:
            process.stop()


def birth(pid: int) -> str:
    """When a process was started; empty when there is none, or only its remains."""
    found = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    state, _, started = found.partition(" ")
    return "" if state.startswith("Z") else started.strip()


def spawn(name: str, command: Sequence[str], *, folder: Path, log: Path) -> Process:
    """Start a process that outlives this one, its output in a file."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )
    started.returncode = 0  # it is not waited for: it is stopped by its pid, perhaps by another process
    return Process(name, started.pid, birth(started.pid))


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def await_answer(answers: Callable[[], bool], process: Process, log: Path) -> None:
    """Return when the broker answers in its own protocol, an open port is not enough; else it is stopped.

    Raises:
        RuntimeError: it ended, or did not answer in time; with the end of its log.
    """
    try:
        _await(answers, process, log)
    except BaseException:  # also when somebody interrupts: else it would run on, and nobody would know
        process.stop()
        raise


def _await(answers: Callable[[], bool], process: Process, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not answers():
        if not process.alive or time.monotonic() > end:
            why = "did not answer in time" if process.alive else "ended"
            tail = log.read_text(encoding="utf-8", errors="replace")[-3000:] if log.exists() else ""
            raise RuntimeError(f"{process.name} {why}:\n{tail}")
        time.sleep(0.1)
