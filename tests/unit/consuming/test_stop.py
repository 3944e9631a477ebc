"""Stopping: what runs may end, the rest goes back, nothing of it looks like a failure (promises 7, 17)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import unimsg
from tests.unit.consuming.harness import LOG, World, balance, leased, until
from unimsg.consuming.delivery import Delivery
from unimsg.errors import ConfigError, DeadLetter, RejectedError, ThrottledError
from unimsg.message import WireMessage
from unimsg.spi import Assignment, ReceiveLimits


async def test_a_log_commits_only_the_done_prefix_and_a_stop_takes_the_rest_back() -> None:
    """Promise 7."""
    world = World(limits=LOG, concurrency=5, order="none", drain=0.05)
    part = Assignment("p0")
    world.receiver.feed(*[b"1"] * 5, assignment=part)
    blocked = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        if delivery._received.token == 2:
            await blocked.wait()

    task = world.start(handle)
    await until(lambda: world.counters.get("acked") == 4)
    await world.stop(task)
    assert max(token for _, token in world.receiver.verbs()) == 1
    assert world.counters["released"] == 1
    balance(world)


async def test_stop_drains_what_runs_and_gives_back_the_rest() -> None:
    """Promise 17."""
    world = World(concurrency=2, drain=1.0)
    world.receiver.feed(*[b"1"] * 10)
    go = asyncio.Event()
    started: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        started.append(delivery._received.token)
        await go.wait()

    task = world.start(handle)
    await until(lambda: len(started) == 2)
    stopping = asyncio.create_task(world.subscriber.aclose())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    assert not [verb for verb, _ in world.receiver.verbs() if verb == "release"], (
        "the last poll must end first"
    )
    go.set()
    await stopping
    await task
    verbs = {token: verb for verb, token in world.receiver.verbs()}
    acked = {token for token, verb in verbs.items() if verb == "ack"}
    assert acked == set(started)
    assert {token for token, verb in verbs.items() if verb == "release"} == set(world.receiver.given) - acked
    assert world.receiver.stopped == 1
    assert world.receiver.closed == [False]
    balance(world)


async def test_stop_beyond_the_budget_cancels_and_counts_nothing() -> None:
    world = World(concurrency=1, drain=0.01)
    world.receiver.feed(b"1")
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = world.start(handle)
    await started.wait()
    await world.stop(task)
    assert cancelled.is_set()
    assert world.receiver.verbs() == [("release", 0)]
    assert world.counters["released"] == 1
    assert world.counters["failed"] == 0
    balance(world)


async def test_a_second_cancellation_hurries() -> None:
    world = World(concurrency=1, drain=100)
    world.receiver.feed(b"1")
    started = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await asyncio.sleep(1000)

    task = world.start(handle)
    await started.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert world.receiver.verbs() == [("release", 0)]


async def test_a_process_that_stood_still_gives_back_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 17: the last poll and the time for the end are over at once; the poll has ended all the same."""
    monkeypatch.setattr("unimsg.consuming.supervisor.UNWIND", 0.05)
    world = World(limits=ReceiveLimits(max_messages=10, wait=0.03, cancel_safe=False), drain=30)
    world.receiver.feed(b"1", key="k")

    async def handle(delivery: Delivery[Any]) -> None:
        raise unimsg.Fail(delay=60)

    task = world.start(handle)
    await until(lambda: world.counters.get("failed"))
    asyncio.get_running_loop().call_later(0.01, time.sleep, 0.1)
    await world.stop(task, drain=0.0)
    assert world.receiver.verbs() == [("release", 0)]
    balance(world)


async def test_a_poll_that_cannot_be_cancelled_needs_a_longer_drain() -> None:
    world = World(limits=ReceiveLimits(max_messages=10, wait=20, cancel_safe=False), drain=5)

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    with pytest.raises(ConfigError, match="drain"):
        await world.subscriber.run(handle)
    assert world.receiver.closed == [True]


async def test_what_a_last_poll_catches_is_released_after_it() -> None:
    """Promise 17: a poll that is open at the broker would capture what was just released."""
    limits = ReceiveLimits(max_messages=10, wait=0.2, cancel_safe=False)
    world = World(limits=limits, drain=5)
    started = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()

    world.receiver.feed(b"1")
    task = world.start(handle)
    await started.wait()
    await until(lambda: len(world.receiver.polls) > 1)
    stopping = asyncio.create_task(world.subscriber.aclose())
    await asyncio.sleep(0.01)
    world.receiver.feed(b"2")
    await stopping
    await task
    assert world.receiver.verbs() == [("ack", 0), ("release", 1)]
    balance(world)


async def test_no_task_outlives_a_subscriber() -> None:
    before = asyncio.all_tasks()
    world = World(capabilities=leased(), concurrency=7)
    world.receiver.feed(*[b"1"] * 20)

    async def handle(delivery: Delivery[Any]) -> None:
        await asyncio.sleep(0)

    await world.subscriber.run_until_idle(handle)
    assert asyncio.all_tasks() == before


async def test_a_commit_that_was_refused_is_made_again_before_a_stop_ends() -> None:
    """Promise 17: an ack on its way is flushed, also where the service asks to wait."""
    world = World(limits=LOG, order="none")
    world.receiver.feed(*[b"1"] * 3, assignment=Assignment("p0"))
    world.receiver.fail_settle.append([ThrottledError("slow down, says the test")])

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(handle)
    await until(lambda: world.counters.get("acked") == 3)
    await world.stop(task)
    assert world.receiver.verbs()[-1] == ("ack", 2)
    balance(world)


async def test_where_only_closing_gives_back_intake_is_not_ended_before() -> None:
    """Promises 4, 17: ended before, the next consumer would get what comes after that which is still out."""
    limits = ReceiveLimits(max_messages=10, wait=1.0, intake_ends="after_drain", release="close")
    world = World(limits=limits, concurrency=1)
    world.receiver.feed(*[b"1"] * 3, key="k")
    started, go = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await go.wait()

    task = world.start(handle)
    await started.wait()
    stopping = asyncio.create_task(world.subscriber.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    go.set()
    await stopping
    await task
    assert world.receiver.stopped == 0
    assert world.receiver.closed == [False]
    assert world.counters["released"] == world.counters["received"] - 1 > 0
    balance(world)


async def test_a_stop_ends_an_open_that_gets_no_answer() -> None:
    """Promise 17: at once, and the run ends as by any stop."""
    world = World()
    opening = asyncio.Event()

    async def hang(_events: Any) -> Any:
        opening.set()
        await asyncio.Event().wait()

    object.__setattr__(world.subscriber._services, "open_receiver", hang)

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(handle)
    await opening.wait()
    async with asyncio.timeout(2):
        await world.stop(task)


async def test_what_could_not_be_dead_lettered_while_it_stops_goes_back() -> None:
    """Promises 15, 17: it is released when its dead letter is refused, not left until its lease ends."""
    world = World(dead_letter="dead")
    world.receiver.feed(b"1")
    writing, go = asyncio.Event(), asyncio.Event()

    async def refused(_destination: str, _message: WireMessage) -> object:
        writing.set()
        await go.wait()
        raise RejectedError("refused by the test")

    world.bury = refused

    async def handle(_delivery: Delivery[Any]) -> None:
        raise DeadLetter("no use")

    task = world.start(handle)
    await writing.wait()
    stopping = asyncio.create_task(world.subscriber.aclose(0.0))
    await until(lambda: world.receiver.stopped)
    go.set()
    await stopping
    await task

    assert world.receiver.verbs() == [("release", 0)]
    balance(world)
