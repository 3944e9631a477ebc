"""E: settlement. What is acked stays away, what is not comes again, each as the attempt that it is.

Leases, prefetch and what wakes a waiting receive stand in `e_leases`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from itertools import pairwise
from typing import Any

import pytest

import unimsg
from unimsg.consuming.delivery import Delivery
from unimsg.errors import Error, LeaseLostError, SettleError
from unimsg.spi import Settlement
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.handlers import Lossy, Seen, publish
from unimsg.testing.conformance.world import (
    Gathered,
    World,
    consuming,
    eventually,
    gather,
    left,
    quick,
)
from unimsg.testing.faults import Some, inject


class Settlements(Section):
    """Section E of the catalogue, without leases."""

    async def test_a_failed_message_comes_again_as_the_next_attempt(self, world: World) -> None:
        """E: `fail` and an exception alike, with a key and without; promises 3, 9, 10."""
        client, destination = await world.client(), await world.destination()
        sent = [await client.publish(destination, key or "none", key=key) for key in (None, "k")]
        seen = Seen()

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if delivery.attempt == 1:
                await delivery.fail()
            elif delivery.attempt == 2:
                raise RuntimeError("not yet")

        async with consuming(client, destination, handle, group=world.group, retry=quick(world)):
            await seen.times(6)

        assert {body: seen.attempts(body) for body in ("none", "k")} == {"none": [1, 2, 3], "k": [1, 2, 3]}
        assert {delivery.id for delivery in seen.all} == {receipt.id for receipt in sent}

    async def test_a_delayed_fail_does_not_come_early(self, world: World) -> None:
        """E: not before its delay, less what cannot be told apart here; promises 9, 11."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "m")
        clock, seen, delay = asyncio.get_running_loop().time, Seen(), 5 * world.tick
        times: list[float] = []

        async def handle(delivery: Delivery[Any]) -> None:
            times.append(clock())
            seen.note(delivery)
            if delivery.attempt == 1:
                await delivery.fail(delay=delay)
            elif delivery.attempt == 2:
                raise unimsg.Fail("again", delay=delay)

        async with consuming(client, destination, handle, group=world.group):
            await seen.times(3)

        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert min(pauses) >= delay - world.tick

    async def test_acking_twice_is_acking_once(self, world: World) -> None:
        """E: in a handler and in iteration; one settlement goes out, nothing comes again; promise 21."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.publish(destination, "m")

        async def handle(delivery: Delivery[Any]) -> None:
            await delivery.ack()
            await delivery.ack()
            seen.note(delivery)

        seen = Seen()
        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await seen.times(1)
            await eventually(lambda: subscriber.health().counters["acked"] == 1, "the message is acked")

        await client.publish(destination, "n")
        async with aclosing(aiter(client.subscriber(destination, group=world.group))) as deliveries:
            async for delivery in deliveries:
                assert delivery.body == "n"
                await delivery.ack()
                await delivery.ack()
                break

        verbs = [settlement.verb for batch in faults.settled for settlement in batch]
        assert verbs == ["ack", "ack"]
        assert await left(client, destination, group=world.group) == []

    async def test_failing_after_an_ack_is_refused(self, world: World) -> None:
        """E: the first verdict stands, whatever the handler says or raises afterwards; promise 9."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "m")
        refused: list[type[Exception]] = []
        seen = Seen()

        async def handle(delivery: Delivery[Any]) -> None:
            await delivery.ack()
            for verb in (delivery.fail, delivery.defer):
                with pytest.raises(SettleError) as raised:
                    await verb()
                refused.append(raised.type)
            seen.note(delivery)
            raise RuntimeError("too late")

        async with consuming(
            client, destination, handle, group=world.group, retry=quick(world)
        ) as subscriber:
            await seen.times(1)
            await eventually(lambda: subscriber.health().counters["acked"] == 1, "the ack stands")

        assert refused == [SettleError, SettleError]
        assert await left(client, destination, group=world.group) == []
        assert seen.attempts("m") == [1]

    # ------------------------------------------------------------ losses

    async def test_nothing_is_lost_where_a_tenth_of_everything_fails(self, world: World) -> None:
        """E: handlers and settlements fail by chance in three consumers at once; promises 1, 5."""
        destination, count = await world.destination(), world.scaled(5000, least=100)
        lossy = Lossy(world.chance(), count)
        await publish(await world.client(), destination, count)

        async with AsyncExitStack() as stack:
            for _ in range(3):
                client = world.connect()
                inject(client).always("settle", Some(lossy.settlement))
                await stack.enter_async_context(
                    consuming(client, destination, lossy, group=world.group, retry=quick(world, 1000))
                )
            await lossy.all_done()

        assert lossy.failed, "nothing failed, so nothing was proved"
        assert await left(await world.client(), destination, group=world.group, retry=quick(world)) == []

    async def test_nothing_is_lost_where_a_tenth_fails_and_the_broker_restarts(self, world: World) -> None:
        """E: lossy through a restart in the middle; promises 1, 5."""
        destination, count = await world.destination(), world.scaled(5000, least=100)
        lossy = Lossy(world.chance(), count)
        client = await world.brief()
        await publish(client, destination, count)

        async with consuming(client, destination, lossy, group=world.group, retry=quick(world, 1000)):
            await eventually(lambda: len(lossy.done) >= count // 3, "a third is handled")
            await world.restart()
            await lossy.all_done()

        assert lossy.failed, "nothing failed, so nothing was proved"

    async def test_what_failed_comes_again_after_a_restart_and_no_gap_is_skipped(self, world: World) -> None:
        """E: A, B, D acked, C, E failed; then C and E come again, and D where positions are a prefix; promise 7."""
        destination = await world.destination()
        client = await world.brief()
        key = (
            "k" if world.is_log else None
        )  # one prefix; elsewhere a lane may give no second one beside the first
        for body in "ABCDE":
            await client.publish(destination, body, key=key)
        seen, failed_again = Seen(), {"C": asyncio.Event(), "E": asyncio.Event()}

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if delivery.body in failed_again:
                if delivery.attempt == 1:
                    raise RuntimeError("first time")
                failed_again[delivery.body].set()
                await asyncio.Event().wait()  # until the consumer is gone

        async with consuming(
            client, destination, handle, group=world.group, order="none", retry=quick(world)
        ) as subscriber:
            await eventually(lambda: all(e.is_set() for e in failed_again.values()), "C and E ran twice")
            await eventually(lambda: {d.body for d in seen.all} == set("ABCDE"), "all five ran")
            prefix = only_prefixes(subscriber)
            await subscriber.aclose(drain=0.0)
        await client.aclose()
        await world.leases_end()

        again = await left(await world.brief(), destination, group=world.group)
        assert sorted(set(again)) == (["C", "D", "E"] if prefix else ["C", "E"])

    async def test_one_bad_entry_spoils_no_other_ack(self, world: World) -> None:
        """E: of an ack batch one entry is refused: it alone comes again; promises 5, 7, 21."""
        destination, count = await world.destination(), 8
        client = world.connect(**world.brief_options)
        faults = inject(client)
        await publish(client, destination, count)
        running = Gathered(count)
        go, bad = asyncio.Event(), list[Settlement]()

        def choose(_: int, settlement: Settlement) -> Error | None:
            if bad:
                return None
            bad.append(settlement)
            return LeaseLostError("refused by the test")

        async def handle(delivery: Delivery[Any]) -> None:
            await running(delivery)
            await go.wait()

        async with consuming(
            client, destination, handle, group=world.group, order="none", concurrency=count
        ) as subscriber:
            await running.enough()
            faults.always("settle", Some(choose))
            go.set()
            await eventually(lambda: not subscriber.health().in_flight, "all are settled or lost")
            prefix = only_prefixes(subscriber)
        await client.aclose()
        await world.leases_end()

        again = set(await left(await world.brief(), destination, group=world.group))
        spoiled = {d.body for d in running.deliveries if covers(bad[0], d, prefix=prefix)}
        assert again == spoiled if not prefix else again <= spoiled

    async def test_what_a_crashed_consumer_had_comes_again(self, world: World) -> None:
        """E: it dies in its handlers: no ack, no goodbye; another gets all of it; promises 1, 5."""
        destination, count = await world.destination(), 6
        client = world.connect(**world.brief_options)
        faults = inject(client)
        await publish(client, destination, count)
        running = Gathered(count)

        async def handle(delivery: Delivery[Any]) -> None:
            await running(delivery)
            await asyncio.Event().wait()

        async with consuming(client, destination, handle, group=world.group, order="none") as subscriber:
            await running.enough()
            async with faults.down():
                await eventually(lambda: not subscriber.health().in_flight, "all in hand is lost")
                await subscriber.aclose(drain=0.0)
                await client.aclose()

        assert faults.settled == [], "a crash settles nothing"
        other = await world.brief()
        again = await gather(other, destination, count, group=world.group)
        assert sorted(again.bodies) == list(range(count))

    # ------------------------------------------------------------ holding, counting, positions

    async def test_what_is_held_for_long_is_neither_lost_nor_doubled(self, world: World) -> None:
        """E: half stay unacked for several leases (5 s at full size), then resume; promises 8, 18."""
        client, destination = await world.brief(), await world.destination()
        count = 20
        await publish(client, destination, count)
        go, seen = asyncio.Event(), Seen()

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if delivery.body % 2:
                await go.wait()

        async with consuming(
            client, destination, handle, group=world.group, order="none", concurrency=count
        ) as subscriber:
            await seen.times(count)
            await asyncio.sleep(max(5 * world.scale, 2 * (world.lease or world.tick)))
            assert subscriber.health().in_flight == count // 2
            go.set()
            await eventually(lambda: subscriber.health().counters["acked"] == count, "all are acked")

        assert Counter(delivery.body for delivery in seen.all) == dict.fromkeys(range(count), 1)
        assert await left(client, destination, group=world.group) == []

    async def test_the_attempt_is_right_on_every_redelivery(self, world: World) -> None:
        """E: what fails counts, what is deferred does not, in any mixture; promises 9, 10."""
        client, destination = await world.client(), await world.destination()
        for key in (None, "k"):
            await client.publish(destination, key or "none", key=key)
        seen, wanted = Seen(), [1, 2, 2, 3, 4, 4, 5]

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            match len(seen.attempts(delivery.body)):
                case 1:
                    raise RuntimeError("counts")
                case 2:
                    await delivery.defer(world.tick)
                case 3:
                    await delivery.fail(delay=world.tick)
                case 4:
                    raise unimsg.Fail("counts")
                case 5:
                    raise unimsg.Defer(0)
                case 6:
                    await delivery.fail()

        async with consuming(client, destination, handle, group=world.group, retry=quick(world, 9)):
            await seen.times(2 * len(wanted))

        assert [seen.attempts(body) for body in ("none", "k")] == [wanted, wanted]

    @requires(attempts="broker")
    async def test_the_attempt_is_right_after_the_consumer_was_replaced(self, world: World) -> None:
        """E: where the broker remembers, a stop counts nothing and forgets nothing; promises 10, 17."""
        destination = await world.destination()
        publisher = await world.client()
        for key in (None, "k"):
            await publisher.publish(destination, key or "none", key=key)
        attempts: dict[str, list[int]] = {"none": [], "k": []}

        for _ in range(3):
            client, seen = await world.client(), Seen()
            again = {body: asyncio.Event() for body in attempts}

            async def handle(
                delivery: Delivery[Any], seen: Seen = seen, again: dict[str, asyncio.Event] = again
            ) -> None:
                if delivery.body in (d.body for d in seen.all):
                    again[delivery.body].set()
                    await asyncio.Event().wait()  # interrupted by the stop: does not count
                seen.note(delivery)
                attempts[delivery.body].append(delivery.attempt)
                raise RuntimeError("counts")

            async with consuming(
                client, destination, handle, group=world.group, retry=quick(world)
            ) as subscriber:
                await eventually(lambda: all(e.is_set() for e in again.values()), "both ran twice")  # noqa: B023 - awaited at once
                await subscriber.aclose(drain=0.0)
            await client.aclose()

        assert attempts == {"none": [1, 2, 3], "k": [1, 2, 3]}

    async def test_a_groups_position_outlives_its_last_consumer(self, world: World) -> None:
        """E: what came while nobody was there is given to the next, from where the group stood; promises 1, 7."""
        destination = await world.destination()
        first = await world.client()
        await publish(first, destination, 5)
        await gather(first, destination, 5, group=world.group)
        await first.aclose()

        second = await world.client()
        await publish(second, destination, 5, start=5)
        found = await left(second, destination, group=world.group, start="newest")

        assert sorted(found) == [5, 6, 7, 8, 9]


def only_prefixes(subscriber: unimsg.Subscriber[Any]) -> bool:
    """Whether this service settles positions, as a log does, and no single messages."""
    home: Any = subscriber._home  # noqa: SLF001 - the limits of a receiver are not shown to programs
    return bool(home.limits.ack == "cumulative")


def covers(settlement: Settlement, delivery: Delivery[Any], *, prefix: bool) -> bool:
    """Whether a settlement speaks of a delivery."""
    received = delivery._received  # noqa: SLF001 - tokens are not shown to programs
    if prefix:
        return received.assignment is settlement.assignment
    return bool(received.token == settlement.token)
