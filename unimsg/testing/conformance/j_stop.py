"""J: stop. What runs may end, what was acked stays acked, the rest goes back uncounted, publishers close last.

A stop never looks like a failure: whoever comes next gets what is left as if it had never been out.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import unimsg
from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import PATIENCE, World, consuming, eventually, gather, left
from unimsg.testing.faults import Hang, inject


class Stop(Section):
    """Section J of the catalogue."""

    async def test_what_runs_may_end_within_the_budget(self, world: World) -> None:
        """J: the handler returns while the subscriber stops, and its message is acked; promises 5, 17."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "one")
        runs, go = asyncio.Event(), asyncio.Event()
        ended: list[Any] = []

        async def handle(delivery: Delivery[Any]) -> None:
            runs.set()
            await go.wait()
            ended.append(delivery.body)

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await eventually(runs.is_set, "the handler runs")
            stopping = asyncio.create_task(subscriber.aclose())
            await eventually(
                lambda: not subscriber.health().ready or subscriber.health().in_flight, "it stops"
            )
            assert not stopping.done()
            go.set()
            await stopping

        assert ended == ["one"]
        assert subscriber.health().counters["acked"] == 1
        assert await left(client, destination, group=world.group) == []

    async def test_what_outlasts_the_budget_goes_back_uncounted(self, world: World) -> None:
        """J: cancelled, neither failed nor dead-lettered, and the next execution is the first; promises 10, 17."""
        dead = await world.destination("dead")
        destination = await world.destination(dead_letter=dead)
        client = await world.client(wait=world.tick)
        await client.publish(destination, "one")
        runs = asyncio.Event()

        async def never(_delivery: Delivery[Any]) -> None:
            runs.set()
            await asyncio.Event().wait()

        once = unimsg.RetryPolicy(max_attempts=1)
        subscriber = client.subscriber(destination, group=world.group, retry=once, dead_letter=dead)
        running = asyncio.create_task(subscriber.run(never))
        await eventually(runs.is_set, "the handler runs")
        await subscriber.aclose(drain=world.tick)
        await running
        counters = subscriber.health().counters
        again = await gather(client, destination, 1, group=world.group)

        assert counters["released"] + counters["lost"] == 1
        assert counters["failed"] == counters["dead_lettered"] == counters["acked"] == 0
        assert again.bodies == ["one"]
        assert again.deliveries[0].attempt == 1
        assert await left(client, dead, group=world.group) == []

    async def test_acks_in_the_buffer_are_flushed(self, world: World) -> None:
        """J: stopped in the moment in which the last handler returns; promises 5, 17."""
        client, destination, count = await world.client(), await world.destination(), 50
        await fill(client, destination, count)
        enough = asyncio.Event()
        handled: list[Any] = []

        async def handle(delivery: Delivery[Any]) -> None:
            handled.append(delivery.body)
            if len(handled) == count:
                enough.set()

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await eventually(enough.is_set, "all are handled")

        assert subscriber.health().counters["acked"] == len(handled)
        assert subscriber.health().in_flight == 0
        assert await left(client, destination, group=world.group) == []

    async def test_acks_on_their_way_to_the_broker_are_waited_for(self, world: World) -> None:
        """J: a stop ends after the answer to what it had sent, not before; promises 5, 17."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        await client.publish(destination, "one")
        answer = asyncio.Event()
        faults.next("settle", Hang(until=answer))

        async def handle(_delivery: Delivery[Any]) -> None:
            pass

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await eventually(lambda: faults.calls["settle"], "the ack is on its way")
            stopping = asyncio.create_task(subscriber.aclose())
            await _turns()
            assert not stopping.done()
            answer.set()
            await stopping

        assert subscriber.health().counters["acked"] == 1
        assert await left(client, destination, group=world.group) == []

    async def test_what_was_prefetched_goes_to_the_next_consumer_at_once(self, world: World) -> None:
        """J: released after the drain and the last poll, dropped is not done; promises 7, 10, 17."""
        client, destination, count = await world.client(), await world.destination(), 60
        await fill(client, destination, count)
        go, runs = asyncio.Event(), asyncio.Event()
        first: list[Any] = []

        async def hold(delivery: Delivery[Any]) -> None:
            runs.set()
            await go.wait()
            first.append(delivery.body)

        async with consuming(
            client, destination, hold, group=world.group, concurrency=2, order="none"
        ) as subscriber:
            await eventually(runs.is_set, "a handler runs")
            await eventually(lambda: subscriber.health().in_flight > 2, "some are prefetched")
            stopping = asyncio.create_task(subscriber.aclose())
            await _turns()
            go.set()
            await stopping
        rest = await gather(client, destination, count - len(first), group=world.group)

        assert first
        assert sorted([*first, *rest.bodies]) == list(range(count))
        assert all(delivery.attempt == 1 for delivery in rest.deliveries)

    @requires(ordering="key")
    async def test_what_goes_back_keeps_its_order(self, world: World) -> None:
        """J: a lane that is handed back by a stop is taken up where it was; promises 4, 6, 17."""
        client, destination, count = await world.client(), await world.destination(), 30
        for number in range(count):
            await client.publish(destination, number, key="k")
        handled: list[Any] = []
        enough = asyncio.Event()

        async def handle(delivery: Delivery[Any]) -> None:
            handled.append(delivery.body)
            await asyncio.sleep(0)
            if not len(handled) % 10:
                enough.set()

        while len(handled) < count:
            enough.clear()
            async with consuming(client, destination, handle, group=world.group):
                await eventually(enough.is_set, "ten more are handled")

        assert handled == list(range(count))

    async def test_publishers_are_open_until_handlers_have_ended(self, world: World) -> None:
        """J: what a handler publishes while the client closes is confirmed; promise 17."""
        client, destination, out = await world.client(), await world.destination(), await world.destination()
        await client.publish(destination, "in")
        runs, go = asyncio.Event(), asyncio.Event()
        receipts: list[unimsg.Receipt] = []

        async def handle(delivery: Delivery[Any]) -> None:
            runs.set()
            await go.wait()
            receipts.append(await delivery.publish(out, "out"))

        running = asyncio.create_task(client.subscriber(destination, group=world.group).run(handle))
        await eventually(runs.is_set, "the handler runs")
        closing = asyncio.create_task(client.aclose())
        await _turns()
        go.set()
        async with asyncio.timeout(PATIENCE):
            await closing
            await running
        second = await world.client()

        assert len(receipts) == 1
        assert (await gather(second, out, 1, group=world.group)).bodies == ["out"]
        assert await left(second, destination, group=world.group) == []

    async def test_a_pause_keeps_what_was_assigned(self, world: World) -> None:
        """J: nothing starts while paused, the receiver stays, and it goes on with the same; promise 18."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        handled: list[Any] = []

        async def handle(delivery: Delivery[Any]) -> None:
            handled.append(delivery.body)

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await client.publish(destination, "before")
            await eventually(lambda: handled == ["before"], "the first is handled")
            held = set(subscriber.health().assignments)
            subscriber.pause()
            await client.publish(destination, "while paused")
            await asyncio.sleep(4 * world.tick)  # long enough to show what must not happen
            assert handled == ["before"]
            assert subscriber.health().assignments == held
            subscriber.resume()
            await eventually(lambda: handled == ["before", "while paused"], "it goes on after the pause")

        assert faults.calls["open_receiver"] == 1

    async def test_a_second_signal_forces_the_end(self, world: World) -> None:
        """J: the first waits for the handler, the second cancels it, and nothing is counted; promises 10, 17."""
        client, destination = await world.client(wait=world.tick), await world.destination()
        await client.publish(destination, "one")
        router = unimsg.Router()
        runs = asyncio.Event()

        @router.on(destination, group=world.group, drain=PATIENCE)
        async def never(_delivery: Delivery[Any]) -> None:
            runs.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(router.run(client))
        await eventually(runs.is_set, "the handler runs")
        os.kill(os.getpid(), signal.SIGTERM)
        await _turns()
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(PATIENCE / 2):
            await running
        again = await gather(client, destination, 1, group=world.group)

        assert again.bodies == ["one"]
        assert again.deliveries[0].attempt == 1


async def fill(client: Client, destination: str, count: int) -> None:
    """Publish numbers, each with a key of its own."""
    publisher = client.publisher(destination)
    await publisher.publish_many(unimsg.Message(body=n, key=f"k{n}") for n in range(count))


async def _turns(count: int = 50) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)
