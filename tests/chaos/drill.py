"""Drill: plays a plan on any backend, judges it and writes the report; `python -m tests.chaos.drill URL --seed 1`.

Law: the order of things only; what happens is done by the processes on the stage, what it proves is the judge's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

import unimsg
from tests.chaos.judge import Judge, Verdict
from tests.chaos.ledger import Completed, Dead, Effect, Ended, Ledger, Line, Sent, Struck, Tail, read
from tests.chaos.plan import Plan
from tests.chaos.stage import Stage
from unimsg import codecs

LOOK = 0.25
"""Seconds between two looks at the ledgers."""


class Progress:
    """Follows the ledgers: what is confirmed, what had its effect or was completed, and since when nothing happened.

    A kill may fall between a completion and the line that tells of it: what had its effect is waited for as long as a
    lease may last (`patience`), what had none for as long as a busy machine may take (`stall`).
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._events = Tail(plan.events)
        self._sends = [Tail(plan.sends(name)) for name in plan.names("producer")]
        self._confirmed: set[str] = set()
        self._poisoned: set[str] = set()
        self._effects: set[str] = set()
        self._completed: set[str] = set()
        self.moved = time.monotonic()

    def note(self, what: str) -> None:
        """Write down what is done to brokers or networks: the report counts it, what comes too late by another name."""
        self._ledger.write(Struck(what if self._open() else f"{what}, when all was over"))

    async def reach(self, part: float) -> None:
        """Return when so large a part of all messages is confirmed, and the first had their effects: both are at it."""
        while len(self._confirmed) < part * self._plan.messages or not self._effects:  # noqa: ASYNC110 - other processes write them to files
            await asyncio.sleep(LOOK / 5)

    async def until_done(self) -> bool:
        """Return when every confirmed message is completed; False: nothing moves any more."""
        while time.monotonic() - self.moved < self._patience():
            await asyncio.sleep(LOOK)
            if self._look():
                self.moved = time.monotonic()
        return not self._open()

    def _look(self) -> bool:
        """Read on; whether anything came."""
        before = len(self._confirmed), len(self._effects), len(self._completed)
        for tail in self._sends:
            for line in tail.read():
                if isinstance(line, Ended) and line.how == "confirmed":
                    self._confirmed.add(line.id)
                elif isinstance(line, Sent) and line.poison:
                    self._poisoned.add(line.id)
        for line in self._events.read():
            if isinstance(line, Completed):
                self._completed.add(line.id)
            elif isinstance(line, Effect):
                self._effects.add(line.id)
        return before != (len(self._confirmed), len(self._effects), len(self._completed))

    def _open(self) -> bool:
        """Whether a message is not confirmed, or had no effect yet; of the poisoned only a completion would tell."""
        without = self._confirmed - self._completed - self._effects - self._poisoned
        return len(self._confirmed) < self._plan.messages or bool(without)

    def _patience(self) -> float:
        if self._open():
            return self._plan.stall
        return self._plan.patience if self._confirmed - self._completed else 0.0


async def play(plan: Plan, disturb: Callable[[Progress], Awaitable[None]] | None = None) -> Verdict:
    """Play a plan and judge it; the report stands in its folder.

    Args:
        plan: what happens.
        disturb: what else happens, to brokers and networks; it is over before the drill is.
    """
    stage, begin = Stage(plan), time.monotonic()
    progress = Progress(plan, stage.ledger)
    try:
        for role in ("consumer", "producer"):
            for name in plan.names(role):
                await stage.start(role, name)
        trouble = [
            asyncio.create_task(stage.harass("consumer", plan.kill_consumers)),
            asyncio.create_task(stage.harass("producer", plan.kill_producers)),
        ]
        disturbing = asyncio.ensure_future(disturb(progress) if disturb is not None else asyncio.sleep(0))
        try:
            done = await progress.until_done()
            if done:
                async with asyncio.timeout(plan.stall):
                    await disturbing
        finally:
            await _end([*trouble, disturbing])
        seconds = progress.moved - begin
        if done:
            await stage.ended(plan.names("producer"))
            await stage.stop(plan.names("consumer"))
            await _read_dead_letters(plan, stage)
    finally:
        stage.abandon()
    verdict = Judge(ordered=plan.ordered, once=plan.once).judge(everything(plan))
    verdict.accuse("stalled", [] if done else [f"nothing moved for {plan.stall:g} s"])
    report(plan, verdict, seconds)
    return verdict


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel them, and raise what went wrong in one of them."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _read_dead_letters(plan: Plan, stage: Stage) -> None:
    seen: set[str] = set()

    async def note(delivery: unimsg.Delivery[bytes | None]) -> None:
        where = str(delivery.position or "")
        if where and where in seen:  # this reading may get one twice, too
            return
        seen.add(where)
        told = msgspec.json.decode(delivery.headers.get("unimsg-dead-letter", "{}"))
        stage.ledger.write(Dead(delivery.id or "", told.get("origin", {}).get("position", "")))

    async with unimsg.connect(plan.way("reader")) as client:
        await client.subscriber(plan.dead_letter, group=plan.reader, codec=codecs.BYTES).run_until_idle(note)


def everything(plan: Plan) -> Iterator[Line]:
    """Yield all lines: those of the producers first, the rest in the order in which it happened."""
    yield from read(plan.sends(name) for name in plan.names("producer"))
    yield from read([plan.events])


def report(plan: Plan, verdict: Verdict, seconds: float) -> None:
    """Write the verdict, for people and for programs."""
    folder = Path(plan.folder)
    rate = plan.messages / seconds
    head = f"{plan.url.partition('://')[0]}, seed {plan.seed}: {seconds:.1f} s, {rate:,.0f} messages/s"
    (folder / "report.txt").write_text("\n".join([head, *verdict.lines()]) + "\n", encoding="utf-8")
    found: dict[str, Any] = {
        "plan": plan,
        "seconds": round(seconds, 2),
        "holds": verdict.holds,
        "verdict": verdict,
    }
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))


def main() -> int:
    """Play from the command line; 1 when the verdict does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.drill", description=__doc__)
    parser.add_argument("url")
    for name, kind in (("seed", int), ("messages", int), ("kill-producers", float), ("store", str)):
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS)
    parser.add_argument("--folder", default=None, help="where ledgers, logs and the report are kept")
    given = vars(parser.parse_args())
    folder = given.pop("folder") or tempfile.mkdtemp(prefix="drill-")
    plan = Plan(folder=folder, **given)
    verdict = asyncio.run(play(plan))
    sys.stdout.write((Path(folder) / "report.txt").read_text(encoding="utf-8"))
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
