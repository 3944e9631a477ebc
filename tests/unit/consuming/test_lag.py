"""The lag in the health: asked beside the intake, and never in its way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.unit.consuming.harness import FakeReceiver, World
from unimsg.consuming.delivery import Delivery


class Lagging(FakeReceiver):
    """Answers with the next of `answers`, and hangs when there is none."""

    answers: list[int | Exception]

    async def lag(self) -> int | None:
        """See `unimsg.spi.Lags`."""
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def lagging(*answers: int | Exception) -> World:
    """A world whose receiver can tell its lag."""
    world = World()
    receiver = Lagging()
    receiver.answers = list(answers)
    world.receivers[0] = receiver
    return world


async def ignore(_: Delivery[Any]) -> None:
    """Handle."""


async def test_health_tells_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again, and an error is survived: the next answer counts."""
    monkeypatch.setattr("unimsg.consuming.intake.LAG_EVERY", 0.01)
    world = lagging(7, ValueError("no answer"), 3, 3, 3)
    seen: set[int | None] = set()
    world.receiver.feed(b"1")

    async def wait_for_both(_: Delivery[Any]) -> None:
        while not {7, 3} <= seen:
            seen.add(world.subscriber.health().lag)
            await asyncio.sleep(0)

    health = await world.subscriber.run_until_idle(wait_for_both)
    assert seen == {7, None, 3}
    assert health.lag is None  # who has ended has nothing before it


async def test_a_lag_that_hangs_is_in_nobodys_way() -> None:
    """Messages flow and the loop ends while the question is open."""
    world = lagging()
    world.receiver.feed(*[b"1"] * 50)
    health = await world.subscriber.run_until_idle(ignore)
    assert health.counters["acked"] == 50
    assert health.lag is None


async def test_a_lag_that_ignores_its_cancellation_keeps_nobody_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 17: the end is bounded, whatever a backend does."""
    monkeypatch.setattr("unimsg.consuming.intake.LAG_ENDS", 0.01)
    world, answer = lagging(), asyncio.Event()
    world.receiver.feed(b"1")

    async def stubborn() -> int:
        while not answer.is_set():
            with suppress(asyncio.CancelledError):
                await answer.wait()
        return 1

    monkeypatch.setattr(world.receiver, "lag", stubborn)
    async with asyncio.timeout(10):
        health = await world.subscriber.run_until_idle(ignore)
    assert health.counters["acked"] == 1
    assert health.lag is None
    answer.set()
    await asyncio.sleep(0)
