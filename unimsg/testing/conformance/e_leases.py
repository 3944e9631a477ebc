"""E: settlement, leases. Who has a message keeps it, who lost it is told, and who waits for it wakes when it is free.

A lease is that of `World.brief` clients: short, so that a test can outlive several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import unimsg
from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.errors import Error, LeaseLostError, UnavailableError
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.handlers import Seen, publish
from unimsg.testing.conformance.world import PATIENCE, Gathered, World, consuming, eventually, gather, left
from unimsg.testing.faults import Fail, Faults, Some, inject

LONG_POLL = 20.0
"""Seconds that a receive waits where something must wake it; the most that SQS takes."""
UNREACHABLE = Fail(UnavailableError("leases cannot be extended, says the test"))


class Leases(Section):
    """Section E of the catalogue, where it is about leases and prefetch."""

    @requires(lease=True)
    async def test_acking_after_the_lease_is_lost_is_reported(self, world: World) -> None:
        """E: the handler is told and cancelled, its ack raises, another has the message; promises 8, 23."""
        seconds, destination = short_lease(world), await world.destination()
        client = world.connect(lease=seconds)
        inject(client).always("extend", UNREACHABLE)
        await client.publish(destination, "m", key="k")
        told: list[tuple[bool, type[Exception]]] = []

        async def handle(delivery: Delivery[Any]) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                with pytest.raises(LeaseLostError) as raised:
                    await delivery.ack()
                told.append((delivery.lease_lost, raised.type))
                raise

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await eventually(lambda: told, "the handler is told")
            counters = subscriber.health().counters
        again = await gather(await world.client(), destination, 1, group=world.group)

        assert told[0] == (True, LeaseLostError)
        assert (counters["acked"], counters["lost"]) == (0, 1)
        assert again.bodies == ["m"]

    @requires(lease=True)
    async def test_a_lease_is_kept_while_a_handler_runs(self, world: World) -> None:
        """E: three leases long, and nobody else is given the message; promise 8."""
        seconds, destination = short_lease(world), await world.destination()
        client, other = await world.client(lease=seconds), await world.client(lease=seconds)
        await client.publish(destination, "slow")
        seen, elsewhere = Seen(), Gathered(1)

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            await asyncio.sleep(3.2 * seconds)

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await seen.times(1)
            async with consuming(other, destination, elsewhere, group=world.group):
                await eventually(lambda: subscriber.health().counters["acked"], "the message is acked")

        assert elsewhere.bodies == []
        assert seen.attempts("slow") == [1]
        assert await left(client, destination, group=world.group) == []

    @requires(lease=True)
    async def test_a_lease_is_not_extended_when_its_message_is_finished(self, world: World) -> None:
        """E: the keeper goes on for what is in hand, and for nothing else; promise 8."""
        seconds, destination = short_lease(world), await world.destination()
        client = world.connect(lease=seconds)
        faults = inject(client)
        await publish(client, destination, 5)
        seen = Gathered(5)
        hold = Hold(seen)

        async with consuming(client, destination, hold, group=world.group) as subscriber:
            await eventually(lambda: subscriber.health().counters["acked"] == 5, "five are acked")
            assert await extended_while_held(client, faults, destination, hold) == 1

        assert sorted(seen.bodies) == [0, 1, 2, 3, 4]

    @requires(lease=True)
    async def test_a_lease_is_not_extended_when_it_is_lost(self, world: World) -> None:
        """E: the service says that it is gone: the handler is cancelled and the keeper lets go; promise 8."""
        seconds, destination = short_lease(world), await world.destination()
        client = world.connect(lease=seconds)
        faults = inject(client)
        gone: list[Any] = []

        def choose(_: int, token: Any) -> Error | None:
            gone.append(token)
            return LeaseLostError("gone, says the test")

        faults.next("extend", Some(choose))
        await client.publish(destination, "m")
        extended, again = 0, asyncio.Event()

        async def handle(delivery: Delivery[Any]) -> None:
            nonlocal extended
            if gone:
                again.set()  # a whole lease has passed
                return
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert delivery.lease_lost
                extended = len(faults.extended)
                raise

        async with consuming(client, destination, handle, group=world.group):
            async with asyncio.timeout(PATIENCE):
                await again.wait()

        assert gone
        assert not [token for tokens in faults.extended[extended:] for token in tokens if token in gone]

    @requires(lease=True)
    async def test_a_lease_is_not_extended_when_its_message_is_a_duplicate(self, world: World) -> None:
        """E: what an idempotent handler has done already is acked, not kept; promises 8, 25."""
        seconds, destination = short_lease(world), await world.destination()
        client = world.connect(lease=seconds)
        faults, effects = inject(client), list[Any]()

        async def note(delivery: Delivery[Any]) -> None:
            effects.append(delivery.body)

        hold = Hold(note)

        @unimsg.idempotent(unimsg.store("memory://"), key=lambda delivery: delivery.body)
        async def handle(delivery: Delivery[Any]) -> None:
            await hold(delivery)

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            for count in (1, 2, 3):
                await client.publish(destination, "once")
                await eventually(lambda: subscriber.health().counters["acked"] == count, "it is acked")  # noqa: B023 - awaited at once
            assert await extended_while_held(client, faults, destination, hold) == 1

        assert effects == ["once"]

    # ------------------------------------------------------------ prefetch

    async def test_prefetch_one_means_no_second_message(self, world: World) -> None:
        """E: while one is in its handler no other is in hand; promise 18."""
        client, destination = await world.client(), await world.destination()
        await publish(client, destination, 5)
        in_hand: list[int] = []

        async def handle(delivery: Delivery[Any]) -> None:
            await asyncio.sleep(world.tick)  # so long a second one would have to come
            in_hand.append(subscriber.health().in_flight)
            await gathered(delivery)

        gathered = Gathered(5)
        subscriber = client.subscriber(destination, group=world.group, prefetch=1, concurrency=1)
        running = asyncio.create_task(subscriber.run(handle))
        await gathered.enough()
        await subscriber.aclose()
        await running

        assert in_hand == [1, 1, 1, 1, 1]

    @requires(lease=True)
    async def test_a_slow_consumer_leaves_the_rest(self, world: World) -> None:
        """E: one message at a time and never done: another consumer gets all the others; promise 18."""
        destination = await world.destination()
        slow, quick = await world.client(), await world.client()
        await publish(slow, destination, 20)
        taken, others, go = Gathered(1), Gathered(19), asyncio.Event()

        async def handle(delivery: Delivery[Any]) -> None:
            await taken(delivery)
            await go.wait()

        async with consuming(slow, destination, handle, group=world.group, prefetch=1, concurrency=1):
            await taken.enough()
            async with consuming(quick, destination, others, group=world.group):
                await others.enough()
                go.set()

        assert sorted([*taken.bodies[:1], *others.bodies[:19]]) == list(range(20))

    # ------------------------------------------------------------ what wakes a receive

    @requires(lease=True)
    async def test_the_end_of_a_lease_wakes_a_receive_that_waits(self, world: World) -> None:
        """E: long before that receive would have ended by itself; promise 8."""
        seconds, destination = short_lease(world), await world.destination()
        holder, waiter = world.connect(lease=seconds), world.connect(lease=seconds, wait=LONG_POLL)
        inject(holder).always("extend", UNREACHABLE)
        faults, woken, held = inject(waiter), Gathered(1), Gathered(1)
        await holder.publish(destination, "m")

        async def handle(delivery: Delivery[Any]) -> None:
            holding.pause()  # what comes again is for the other
            await held(delivery)
            await asyncio.Event().wait()

        async with consuming(holder, destination, handle, group=world.group) as holding:
            await held.enough()
            async with consuming(waiter, destination, woken, group=world.group):
                await eventually(lambda: faults.calls["receive"], "the other one waits")
                async with asyncio.timeout(LONG_POLL / 2):
                    await woken.enough()
                faults.cut()  # a poll that waits would be waited for

        assert woken.bodies == ["m"]

    async def test_the_end_of_a_delay_wakes_a_receive_that_waits(self, world: World) -> None:
        """E: a message that was failed with a delay comes long before that receive would have ended; promise 11."""
        destination = await world.destination()
        client = world.connect(wait=LONG_POLL)
        faults, seen = inject(client), Seen()
        for key in (None, "k"):
            await client.publish(destination, key or "none", key=key)

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if delivery.attempt == 1:
                await delivery.fail(delay=2 * world.tick)

        async with consuming(client, destination, handle, group=world.group):
            async with asyncio.timeout(LONG_POLL / 2):
                await seen.times(4)
            faults.cut()  # as above

        assert (seen.attempts("none"), seen.attempts("k")) == ([1, 2], [1, 2])


def short_lease(world: World) -> float:
    """Return the shortest lease, or end the test where nobody could outlive one."""
    if world.lease is None:
        world.cannot("leases are too long to outlive one")
    return world.lease


class Hold:
    """A handler that keeps the message `held` until it is told to go on; any other goes to another handler."""

    def __init__(self, other: Callable[[Delivery[Any]], Awaitable[None]]) -> None:
        self.held = Gathered(1)
        self.go = asyncio.Event()
        self._other = other

    async def __call__(self, delivery: Delivery[Any]) -> None:
        """Handle one."""
        if delivery.body != "held":
            await self._other(delivery)
            return
        await self.held(delivery)
        await self.go.wait()


async def extended_while_held(client: Client, faults: Faults, destination: str, hold: Hold) -> int:
    """Have one more message held until its lease was extended twice; return how many were extended meanwhile."""
    before = len(faults.extended)
    await client.publish(destination, "held", key="held")
    await hold.held.enough()
    await eventually(lambda: len(faults.extended) >= before + 2, "its lease is extended twice")
    hold.go.set()
    seen: list[Any] = []
    for tokens in faults.extended[before:]:
        seen += [token for token in tokens if token not in seen]
    return len(seen)
