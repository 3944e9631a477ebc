"""Connections, leases and assignments that are lost, and a service that is slow to settle (promise 8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.consuming.harness import LOG, World, balance, leased, until
from unimsg.consuming.delivery import Delivery
from unimsg.errors import (
    AssignmentLostError,
    ConnectionLostError,
    LeaseLostError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Assignment, ReceiveLimits


async def test_a_lost_connection_is_opened_again_and_nothing_of_it_is_acked() -> None:
    """Promise 8, rule 7 of the seam."""
    world = World(concurrency=2)
    world.receiver.feed(b"1")
    first = world.receiver
    started = asyncio.Event()
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        if delivery.body == 1:
            started.set()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(100)
            assert delivery.lease_lost
            with pytest.raises(LeaseLostError):
                await delivery.ack()

    task = world.start(handle)
    await started.wait()
    first.fail_receive.append(ConnectionLostError("cut"))
    first.arrived.set()
    await until(lambda: world.opened == 2 and len(world.receivers) == 2)
    world.receiver.feed(b"2")
    await until(lambda: seen == [1, 2])
    await until(lambda: world.receiver.settled)
    assert not first.settled
    assert first.closed == [True]
    assert world.counters["lost"] == 1
    await world.stop(task)
    balance(world)


async def test_a_lost_lease_takes_along_what_waits_behind_it() -> None:
    """Promises 4 and 8, `lease_covers_lane`: the service frees the whole group, so nothing of it may run here."""
    limits = ReceiveLimits(max_messages=100, wait=1.0, lease_covers_lane=True)
    world = World(limits=limits, capabilities=leased(0.12), concurrency=4)
    world.receiver.refuse_extend.add(0)
    soon = asyncio.get_running_loop().time() + 0.12
    world.receiver.feed(b"1", b"2", key="a", lease_until=soon)
    world.receiver.feed(b"3", key="b", lease_until=soon)
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        if delivery.body == 1:
            await asyncio.Event().wait()

    task = world.start(handle)
    await until(lambda: world.counters.get("lost") == 1)
    await until(lambda: world.counters["released"] == 1)
    await world.stop(task)
    assert sorted(seen) == [1, 3]
    assert sorted(world.receiver.verbs()) == [("ack", 2), ("release", 1)]
    balance(world)


async def test_throttling_keeps_the_receiver() -> None:
    world = World()
    world.receiver.fail_receive.append(ThrottledError("slow down", retry_after=0.01))
    world.receiver.feed(b"1")
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    task = world.start(handle)
    await until(lambda: seen)
    assert world.opened == 1
    await world.stop(task)


async def test_the_first_open_gives_up_only_on_what_is_permanent() -> None:
    world = World()
    world.open_errors += [UnavailableError("later"), UnavailableError("later")]

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(handle)
    await until(lambda: world.opened == 3)
    await world.stop(task)

    world = World()
    world.open_errors.append(NotFoundError("no such queue"))
    with pytest.raises(NotFoundError):
        await world.subscriber.run(handle)


async def test_a_lost_assignment_is_not_acked_and_its_handler_is_told() -> None:
    """Rule 5 of the seam."""
    world = World(limits=LOG, concurrency=2, order="none")
    mine, other = Assignment("p0"), Assignment("p1")
    world.receiver.feed(b"1", assignment=mine)
    world.receiver.feed(b"2", assignment=other)
    started = asyncio.Event()
    told: list[bool] = []

    async def handle(delivery: Delivery[Any]) -> None:
        if delivery.body == 1:
            started.set()
            try:
                await asyncio.sleep(100)
            finally:
                told.append(delivery.lease_lost)
                with pytest.raises(AssignmentLostError):
                    await delivery.ack()

    task = world.start(handle)
    await started.wait()
    await until(lambda: world.receiver.settled)
    mine.live = False
    world.events.lost([mine])  # type: ignore[union-attr]  # it is open
    await until(lambda: told)
    assert told == [True]
    await world.stop(task)
    assert world.receiver.verbs() == [("ack", 1)]
    balance(world)


@pytest.mark.parametrize("how", ["lost", "revoked"])
async def test_what_was_executed_before_an_assignment_was_lost_still_counts(how: str) -> None:
    """Promise 10: else a message that fails would never be exhausted where partitions move often."""
    world = World(
        limits=LOG, concurrency=1, retry=RetryPolicy(max_attempts=9, initial=0.01, max=50, factor=1000)
    )
    mine, again = Assignment("p0"), Assignment("p0")
    world.receiver.feed(b"1", assignment=mine, id="same")
    attempts: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) < 3:
            raise RuntimeError

    task = world.start(handle)
    await until(lambda: attempts == [1, 2])  # and held now, for long
    await until(lambda: world.counters["failed"] == 2)
    mine.live = how == "revoked"
    if how == "lost":
        world.events.lost([mine])  # type: ignore[union-attr]  # it is open
    else:
        await world.events.revoked([mine], asyncio.get_running_loop().time() + 5)  # type: ignore[union-attr]  # open
    world.receiver.feed(b"1", assignment=again, id="same")
    await until(lambda: len(attempts) == 3)

    assert attempts == [1, 2, 3]
    await world.stop(task)


async def test_a_revoked_assignment_is_drained_first() -> None:
    world = World(limits=LOG, concurrency=1, order="none")
    mine = Assignment("p0")
    world.receiver.feed(b"1", b"2", b"3", assignment=mine)
    go = asyncio.Event()
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        await go.wait()

    task = world.start(handle)
    await until(lambda: seen)
    loop = asyncio.get_running_loop()
    revoking = asyncio.create_task(world.events.revoked([mine], loop.time() + 5))  # type: ignore[union-attr]  # open
    await asyncio.sleep(0.01)
    assert not revoking.done()
    go.set()
    await revoking
    assert seen == [1], "what had not started goes back"
    assert world.receiver.verbs() == [("ack", 0)]
    await world.stop(task)
    balance(world)


async def test_leases_are_extended_in_batches_and_a_lost_one_is_told() -> None:
    """Promise 8."""
    world = World(capabilities=leased(0.12), concurrency=3)
    loop = asyncio.get_running_loop()
    world.receiver.feed(b"1", b"2", b"3", lease_until=loop.time() + 0.12)
    world.receiver.refuse_extend = {2}
    go = asyncio.Event()
    lost: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        try:
            await go.wait()
        except asyncio.CancelledError:
            lost.append(delivery.body)
            raise

    task = world.start(handle)
    await until(lambda: world.receiver.extended.count(0) >= 3)
    assert lost == [3]
    go.set()
    await until(lambda: len(world.receiver.settled) == 2)
    assert sorted(world.receiver.verbs()) == [("ack", 0), ("ack", 1)]
    await world.stop(task)
    balance(world)


async def test_what_is_past_its_lease_is_never_acked() -> None:
    world = World(concurrency=1)
    loop = asyncio.get_running_loop()
    world.receiver.feed(b"1", lease_until=loop.time() + 0.01)

    async def handle(delivery: Delivery[Any]) -> None:
        await asyncio.sleep(0.03)

    task = world.start(handle)
    await until(lambda: world.counters.get("lost") == 1)
    assert not world.receiver.settled
    await world.stop(task)
    balance(world)


async def test_settling_is_tried_again_and_reported_when_it_cannot_be() -> None:
    world = World(concurrency=1)
    world.receiver.fail_settle += [UnavailableError("later"), [None, LeaseLostError("gone")]]
    world.receiver.feed(b"1", b"2")

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(handle)
    await until(lambda: world.counters.get("acked") == 1 and world.counters.get("lost") == 1)
    await world.stop(task)
    balance(world)
