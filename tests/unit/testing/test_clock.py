"""ManualClock: what a test may rely on when it turns the time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from unimsg.errors import ConfigError
from unimsg.testing import ManualClock


async def test_time_stands_still_until_it_is_moved() -> None:
    async with ManualClock() as clock:
        before = asyncio.get_running_loop().time()
        await clock.settle()
        assert asyncio.get_running_loop().time() == before
        await clock.advance(timedelta(seconds=3))
        assert asyncio.get_running_loop().time() == before + 3


async def test_timers_fire_in_their_order_and_what_they_start_runs_first() -> None:
    """A timer that starts a shorter one: both fire within one advance, in the order of time."""
    loop, fired = asyncio.get_running_loop(), []

    def first() -> None:
        fired.append(("first", loop.time() - start))
        loop.call_later(1.0, lambda: fired.append(("inner", loop.time() - start)))

    async with ManualClock() as clock:
        start = loop.time()
        loop.call_later(5.0, lambda: fired.append(("last", loop.time() - start)))
        loop.call_later(1.0, first)
        await clock.advance(4.0)
        assert [name for name, _ in fired] == ["first", "inner"]
        assert fired[1][1] == pytest.approx(2.0)
        await clock.advance(1.0)
        assert [name for name, _ in fired] == ["first", "inner", "last"]


async def test_sleep_and_timeout_follow() -> None:
    async with ManualClock() as clock:
        sleeping = asyncio.create_task(asyncio.sleep(3600))

        async def impatient() -> None:
            async with asyncio.timeout(60):
                await asyncio.Event().wait()

        waiting = asyncio.create_task(impatient())
        await clock.advance(59.9)
        assert not waiting.done()
        await clock.advance(0.1)
        assert isinstance(waiting.exception(), TimeoutError)
        assert not sleeping.done()
        await clock.advance(3600)
        assert sleeping.done()


async def test_a_cancelled_timer_does_not_fire() -> None:
    fired: list[int] = []
    async with ManualClock() as clock:
        asyncio.get_running_loop().call_later(1.0, fired.append, 1).cancel()
        await clock.advance(2.0)
    assert fired == []


async def test_by_itself_time_jumps_when_nothing_can_run() -> None:
    """`auto=True`: two sleepers end in the order of their times; hours cost nothing."""
    ended: list[float] = []

    async def sleeper(hours: float) -> None:
        await asyncio.sleep(hours * 3600)
        ended.append(hours)

    async with ManualClock(auto=True) as clock:
        start = clock.time()
        await asyncio.gather(sleeper(200), sleeper(100))
        assert ended == [100, 200]
        assert clock.time() - start == pytest.approx(720_000)


async def test_the_loop_gets_its_own_time_back() -> None:
    loop = asyncio.get_running_loop()
    async with ManualClock() as clock:
        await clock.advance(1e6)
    assert "time" not in vars(loop)
    assert loop.time() < clock.time()
    async with ManualClock(auto=True):
        await asyncio.sleep(1e6)
    before = loop.time()
    await asyncio.sleep(0.001)
    assert loop.time() > before


async def test_what_spins_is_told() -> None:
    """A loop that never rests would hang the test: it is an error that says so."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - the point
            await asyncio.sleep(0)

    async with ManualClock() as clock:
        task = asyncio.create_task(spin())
        with pytest.raises(RuntimeError, match="did not come to rest"):
            await clock.settle()
        task.cancel()


async def test_misuse_is_refused() -> None:
    async with ManualClock() as clock:
        with pytest.raises(ValueError, match="backwards"):
            await clock.advance(-1)
        with pytest.raises(ConfigError, match="one at a time"):
            await ManualClock().__aenter__()
