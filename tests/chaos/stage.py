"""Stage: starts the processes of a drill, kills them at moments that a seed gives, and writes down whom and when.

Law: processes and ledgers, no messages. A process is named in the ledger before it is killed and after it is dead, so
that what it did last stands between the two lines, or above them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.ledger import Killed, Killing, Ledger, Ran
from tests.chaos.plan import Plan, who

ROOT = Path(__file__).resolve().parents[2]
STOPPING = 60.0
"""Seconds that a process may take to stop when it is asked to."""


class Stage:
    """The processes of one plan, by name; a killed one begins another life at once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger = Ledger(plan.events)
        self._path = str(plan.save())
        self._lives: dict[str, int] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._doomed: set[str] = set()

    async def start(self, role: str, name: str) -> None:
        """Start the next life of a process."""
        self._lives[name] = life = self._lives.get(name, 0) + 1
        with self.plan.log(name).open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"tests.chaos.{role}", self._path, who(name, life)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def kill(self, name: str) -> bool:
        """Kill a process as a lost machine would; False: it had ended before."""
        process, me = self._running[name], self._who(name)
        if process.returncode is not None:
            return False
        self.ledger.write(Killing(me))
        self._doomed.add(me)
        process.kill()
        return await self._over(name) == -signal.SIGKILL

    async def _over(self, name: str) -> int:
        """Wait for the end of a process and write it down; returns its exit code."""
        me, code = self._who(name), await self._running[name].wait()
        self.ledger.write(Killed(me) if code == -signal.SIGKILL and me in self._doomed else Ran(me, code))
        return code

    async def harass(self, role: str, every: float) -> None:
        """Kill one of a role about every so many seconds, and start it again, until cancelled."""
        random = Random(f"{self.plan.seed}/{role}")
        names = self.plan.names(role)
        left = self.plan.kills
        while every and left != 0:
            await asyncio.sleep(every * random.uniform(0.5, 1.5))
            name = random.choice(names)
            if await self.kill(name):
                await self.start(role, name)
                left = left and left - 1

    async def ended(self, names: Sequence[str]) -> None:
        """Return when these have ended by themselves, whatever life they are in."""
        for name in names:
            while self._running[name].returncode is None:
                await self._running[name].wait()
                await asyncio.sleep(0.1)  # a killed one is started again meanwhile
            await self._over(name)

    async def stop(self, names: Sequence[str]) -> None:
        """Ask these to stop, as a deployment would, and write down how they ended."""
        async with asyncio.timeout(STOPPING):
            for name in names:
                await self._ready(name)
                if self._running[name].returncode is None:
                    self._running[name].send_signal(signal.SIGTERM)
            for name in names:
                await self._over(name)

    async def _ready(self, name: str) -> None:
        """Return when it said that it is ready to be told anything, or has ended."""
        output = self._running[name].stdout
        if output is not None:
            await output.readline()

    def abandon(self) -> None:
        """Leave nothing behind, whatever happened."""
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
        self.ledger.close()

    def _who(self, name: str) -> str:
        return who(name, self._lives[name])
