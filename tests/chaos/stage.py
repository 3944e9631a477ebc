"""Stage: starts the processes of a drill, kills them at moments that a seed gives, and writes down whom and when.

Law: processes and ledgers, no messages. A process is named in the ledger before it is killed and after it is dead, so
that what it did last stands between the two lines, or above them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.ledger import Killed, Killing, Ledger, Ran, Struck
from tests.chaos.plan import Plan, role_of, who

ROOT = Path(__file__).resolve().parents[2]
STOPPING = 60.0
"""Seconds that a process may take to stop when it is asked to."""


class Life:
    """One life of a process."""

    def __init__(self, me: str, process: asyncio.subprocess.Process) -> None:
        self.me = me
        self.process = process
        self.doomed = False
        self._told = False
        self._up = asyncio.create_task(self._says())

    async def _says(self) -> None:
        if self.process.stdout is not None:
            await self.process.stdout.readline()

    @property
    def up(self) -> bool:
        """Whether it works: it has said that it is ready, and has not ended."""
        return self._up.done() and self.process.returncode is None

    async def ready(self) -> None:
        """Return when it has said that it is ready to be told anything, or has ended."""
        await self._up

    def tell_to_stop(self) -> None:
        """As a deployment does, and once: at its very end a process listens no more, and another signal kills it."""
        if not self._told and self.process.returncode is None:
            self._told = True
            self.process.send_signal(signal.SIGTERM)


class Stage:
    """The processes of one plan, by name; a killed one begins another life at once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger = Ledger(plan.events)
        self._path = str(plan.save())
        self._born: Counter[str] = Counter()
        self._lives: dict[str, Life] = {}

    async def start(self, role: str, name: str) -> None:
        """Start the next life of a process."""
        self._born[name] += 1
        me = who(name, self._born[name])
        with self.plan.log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"tests.chaos.{role}", self._path, me),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self._lives[name] = Life(me, process)

    async def kill(self, name: str) -> bool:
        """Kill a process as a lost machine would; False: it had ended before."""
        life = self._lives[name]
        if life.process.returncode is not None:
            return False
        self.ledger.write(Killing(life.me))
        life.doomed = True
        life.process.kill()
        return await self._over(life) == -signal.SIGKILL

    async def _over(self, life: Life) -> int:
        """Wait for the end of a process and write it down; returns its exit code."""
        code = await life.process.wait()
        killed = life.doomed and code == -signal.SIGKILL
        self.ledger.write(Killed(life.me) if killed else Ran(life.me, code))
        return code

    async def leave(self, name: str) -> bool:
        """Tell a process to stop and wait for it, as a deployment does; False: it had ended before."""
        life = self._lives[name]
        if life.process.returncode is not None:
            return False
        self.ledger.write(Struck(f"{role_of(name)} told to leave"))
        life.tell_to_stop()
        async with asyncio.timeout(STOPPING):
            return await self._over(life) == 0

    async def harass(self, role: str, every: float) -> None:
        """Kill one of a role about every so many seconds, or let it leave, and start it again, until cancelled.

        Only while all of them work: on a busy machine they would do nothing but start, and never meet.
        """
        random = Random(f"{self.plan.seed}/{role}")
        names = self.plan.names(role)
        left = self.plan.kills
        while every and left != 0:
            await asyncio.sleep(every * random.uniform(0.5, 1.5))
            name = random.choice(names)
            end = self.leave if random.random() < self.plan.leaving else self.kill
            if all(self._lives[each].up for each in names) and await end(name):
                await self.start(role, name)
                left = left and left - 1

    async def ended(self, names: Sequence[str]) -> None:
        """Return when these have ended by themselves, whatever life they are in."""
        for name in names:
            while self._lives[name].process.returncode is None:
                await self._lives[name].process.wait()
                await asyncio.sleep(0.1)  # a killed one is started again meanwhile
            await self._over(self._lives[name])

    async def stop(self, names: Sequence[str]) -> None:
        """Ask these to stop, as a deployment would, and write down how they ended."""
        lives = [self._lives[name] for name in names]
        async with asyncio.timeout(STOPPING):
            for life in lives:
                await life.ready()
                life.tell_to_stop()
            for life in lives:
                await self._over(life)

    def abandon(self) -> None:
        """Leave nothing behind, whatever happened."""
        for life in self._lives.values():
            if life.process.returncode is None:
                life.process.kill()
        self.ledger.close()
