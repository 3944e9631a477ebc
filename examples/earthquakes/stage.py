"""The stage: starts workers as processes of their own, kills one without warning, and waits for effects.

Law: processes and the effects file; no messages.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from examples.earthquakes.handlers import Effect

PATIENCE = 45.0
"""Seconds after which the demo gives up waiting; its checks then say what is missing."""


@dataclass
class Stage:
    """Workers by name, and what those that ended in order have counted.

    Attributes:
        url: where they consume.
        store: where they remember what they did.
        effects: the file they append to.
        counted: counters of the workers that could still tell, by group.
        killed: the names of those that could not.
    """

    url: str
    store: str
    effects: Path
    counted: dict[str, Counter[str]] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with an empty file and nobody on stage."""
        self.effects.touch()
        self._crew: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        """Start a worker."""
        self._crew[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.earthquakes.worker"),
            *(self.url, self.store, str(self.effects), name),
            stdout=asyncio.subprocess.PIPE,
        )

    async def kill(self, name: str) -> None:
        """Kill a worker as a lost machine would: no handler, no lease, no file is told."""
        process = self._crew.pop(name)
        process.kill()
        await process.wait()
        self.killed.append(name)

    async def stop(self) -> Mapping[str, int]:
        """Ask all workers to stop, as a deployment would, and return their exit codes."""
        codes: dict[str, int] = {}
        for process in self._crew.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self._crew.items():
            said, _ = await process.communicate()
            codes[name] = process.returncode or 0
            if said:
                self.count(msgspec.json.decode(said, type=dict[str, dict[str, int]]))
        self._crew.clear()
        return codes

    def count(self, counters: Mapping[str, Mapping[str, int]]) -> None:
        """Add what somebody counted."""
        for group, counts in counters.items():
            self.counted.setdefault(group, Counter()).update(counts)

    def seen(self) -> Sequence[Effect]:
        """Every effect so far, in the order in which they happened."""
        text = self.effects.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        return [msgspec.json.decode(line, type=Effect) for line in whole.splitlines()]

    async def until(self, enough: Callable[[Sequence[Effect]], bool]) -> bool:
        """Wait until the effects are enough; False: they never were, or every worker has ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not enough(self.seen()):
            ended = [name for name, process in self._crew.items() if process.returncode is not None]
            if len(ended) == len(self._crew) or loop.time() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def abandon(self) -> None:
        """Leave nothing behind, whatever happened."""
        for process in self._crew.values():
            if process.returncode is None:
                process.kill()
