"""The SQLite store among processes that are killed, and that all want the same (promises 5, 23, 24)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import unimsg
from unimsg.idempotency import Ask, Grip
from unimsg.stores.sqlite import Options, SqliteStore

WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).parents[2]
LEASE = 0.6
"""Seconds of a lease of the broker here."""


class Stage:
    """A broker, a store and the outer world, in three files."""

    def __init__(self, folder: Path) -> None:
        self.messages = f"sqlite:///{folder}/messages.db?lease={LEASE}s&dedup=0s"
        self.rows = f"sqlite:///{folder}/seen.db"
        self.effects = folder / "effects"
        self.effects.touch()

    def start(self, moment: str) -> subprocess.Popen[bytes]:
        arguments = [self.messages, self.rows, str(self.effects), moment]
        return subprocess.Popen([sys.executable, str(WORKER), *arguments], cwd=ROOT)

    def done(self) -> list[list[str]]:
        return [line.split() for line in self.effects.read_text().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("moment", "effects"),
    [
        ("before the effect", [("order-1", "2")]),
        ("after the effect", [("order-1", "1"), ("order-1", "2")]),
        ("after the note", [("order-1", "1")]),
    ],
)
async def test_a_worker_is_killed(stage: Stage, moment: str, effects: list[tuple[str, str]]) -> None:
    """Cases 3, 4 and 5: once, twice where it could not be noted, once; the second knows that it is the second."""
    async with unimsg.connect(stage.messages) as client:
        await client.publish("orders", {}, id="order-1")
    with stage.start(moment) as first:
        assert first.wait(60) == -signal.SIGKILL
    await asyncio.sleep(
        LEASE
    )  # what the dead one had in hand is its own until then: nothing would be left to do
    with stage.start("never") as second:
        assert second.wait(60) == 0
    assert [(name, attempt) for name, attempt, _ in stage.done()] == effects
    tokens = [int(token) for _, _, token in stage.done()]
    assert tokens == sorted(set(tokens))


async def test_many_processes_and_many_duplicates(stage: Stage) -> None:
    """Cases 1, 2 and 48: four workers, every message three times, one effect each."""
    async with unimsg.connect(stage.messages) as client:
        for _ in range(3):
            for number in range(50):
                await client.publish("orders", {}, id=f"order-{number}")
    workers = [stage.start("never") for _ in range(4)]
    for worker in workers:
        with worker:
            assert worker.wait(100) == 0
    assert Counter(name for name, _, _ in stage.done()) == {f"order-{number}": 1 for number in range(50)}


async def test_clocks_that_differ_cannot_both_end_a_claim(tmp_path: Path) -> None:
    """Cases 21 and 22: a claim may be taken over early, or stay for longer; its first holder then ends nothing."""
    now = 1_800_000_000.0
    options = Options(path=str(tmp_path / "seen.db"))
    offset = {"slow": -300.0, "fast": 300.0}
    slow = SqliteStore(options, clock=lambda: now + offset["slow"])
    fast = SqliteStore(options, clock=lambda: now + offset["fast"])
    async with slow, fast:
        (early,) = await slow.claim([Ask("s", "k")], lock=30, ttl=3600)
        (later,) = await fast.claim([Ask("s", "k")], lock=30, ttl=3600)
        assert (early.state, later.state) == ("acquired", "acquired"), "it seemed to have run out"
        assert later.token > early.token
        (refused,) = await slow.complete([Grip("s", "k", early.token)], [None], ttl=3600)
        assert not refused
        (done,) = await fast.complete([Grip("s", "k", later.token)], [None], ttl=3600)
        assert done
        offset["fast"] = -3600.0  # it steps back an hour
        (again,) = await fast.claim([Ask("s", "k2")], lock=30, ttl=3600)
        assert again.token > later.token > early.token
