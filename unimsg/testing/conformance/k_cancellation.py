"""K: cancellation. A consumer can be cancelled at any moment; a handler learns that its message is no longer its own.

Nothing is lost by it, nothing counts as a failure, and no task stays behind.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from unimsg.consuming.delivery import Delivery
from unimsg.errors import LeaseLostError
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.j_stop import fill
from unimsg.testing.conformance.world import PATIENCE, World, consuming, eventually, gather
from unimsg.testing.faults import Hang, Some, inject


class Cancellation(Section):
    """Section K of the catalogue."""

    async def test_cancelled_before_it_receives(self, world: World) -> None:
        """K: while it opens, and before it has begun at all; promise 17."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        await client.publish(destination, "one")
        handled: list[Any] = []

        async def handle(delivery: Delivery[Any]) -> None:
            handled.append(delivery.body)

        at_once = asyncio.create_task(client.subscriber(destination, group=world.group).run(handle))
        at_once.cancel()
        await _cancelled(at_once)
        faults.next("open_receiver", Hang())
        opening = asyncio.create_task(client.subscriber(destination, group=world.group).run(handle))
        await eventually(lambda: faults.calls["open_receiver"], "it opens")
        opening.cancel()
        await _cancelled(opening)

        assert handled == []
        assert (await gather(client, destination, 1, group=world.group)).bodies == ["one"]

    async def test_cancelled_while_it_receives(self, world: World) -> None:
        """K: what comes afterwards goes to the next consumer, as if this one had never asked; promises 10, 17."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()

        async def handle(_delivery: Delivery[Any]) -> None:
            raise AssertionError("it was cancelled before there was anything")

        polling = asyncio.create_task(client.subscriber(destination, group=world.group).run(handle))
        await eventually(lambda: faults.calls["receive"], "it polls")
        polling.cancel()
        await _cancelled(polling)
        await client.publish(destination, "one")
        gathered = await gather(client, destination, 1, group=world.group)

        assert gathered.bodies == ["one"]
        assert gathered.deliveries[0].attempt == 1

    @requires(lease=True)
    async def test_a_handler_is_told_that_its_lease_is_lost(self, world: World) -> None:
        """K: cancelled, `lease_lost` is true, no ack is taken or sent, and the message comes again; promise 8."""
        client = world.connect(lease=world.lease)
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        await client.publish(destination, "one")
        told: list[Delivery[Any]] = []
        again = asyncio.Event()

        async def handle(delivery: Delivery[Any]) -> None:
            if told:
                again.set()
                return
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert delivery.lease_lost
                with pytest.raises(LeaseLostError):
                    await delivery.ack()
                told.append(delivery)
                raise

        faults.next("extend", Some(lambda _at, _token: LeaseLostError("it is gone, says the test")))
        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await eventually(lambda: told, "the handler is told")
            assert faults.settled == []
            await eventually(again.is_set, "the message comes again")

        assert subscriber.health().counters["lost"] == 1
        assert subscriber.health().counters["acked"] == 1

    async def test_a_consumer_cancelled_at_any_moment_loses_nothing(self, world: World) -> None:
        """K: cancelled again and again at moments given by a seed; promises 1, 5, 17."""
        random, client, destination = world.chance(), await world.client(), await world.destination()
        count = world.scaled(5_000)
        await fill(client, destination, count)
        handled: Counter[int] = Counter()

        async def handle(delivery: Delivery[Any]) -> None:
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)
            handled[delivery.body] += 1

        while len(handled) < count:
            before = len(handled)
            wanted = min(count, before + random.randrange(1, 1 + count // 5))
            running = asyncio.create_task(
                client.subscriber(destination, group=world.group, concurrency=3).run(handle)
            )
            await eventually(lambda: len(handled) >= wanted, f"{wanted} are handled")  # noqa: B023 - awaited at once
            running.cancel()
            await _cancelled(running)

        assert set(handled) == set(range(count))
        assert max(handled.values()) == 1, "an ack that was given before the end was not sent"


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Return when a task has ended by its cancellation."""
    await asyncio.wait((task,), timeout=PATIENCE)
    assert task.cancelled()
