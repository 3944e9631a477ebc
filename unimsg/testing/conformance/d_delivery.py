"""D: delivery. Everybody gets what is theirs, once where nothing fails, and nothing that is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import unimsg
from unimsg.consuming.delivery import Handler
from unimsg.message import Message
from unimsg.spi import Topology
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import Gathered, World, consuming, eventually, gather, remaining
from unimsg.testing.faults import inject

CONSUMERS = 50


class Deliver(Section):
    """Section D of the catalogue."""

    async def test_what_is_published_is_received_once(self, world: World) -> None:
        """D: acked by the return of the handler, and there is nothing more; promises 1, 5."""
        client, destination = await world.client(), await world.destination()

        await client.publish(destination, {"order": 7}, key="k")
        gathered = await gather(client, destination, 1, group=world.group)

        assert [(d.body, d.key) for d in gathered.deliveries] == [({"order": 7}, "k")]
        assert (await remaining(client, destination, group=world.group)).bodies == []

    async def test_a_consumer_that_waits_is_given_what_comes(self, world: World) -> None:
        """D: the long poll is answered by the message, not by its end."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        gathered = Gathered(1)

        async with consuming(client, destination, gathered, group=world.group):
            await eventually(lambda: faults.calls["receive"], "it waits")
            await client.publish(destination, "one")
            await gathered.enough()
        assert gathered.bodies == ["one"]

    async def test_iteration_gives_what_a_handler_would_get(self, world: World) -> None:
        """D: `async for` with `async with delivery`; what was settled does not come again; promise 5."""
        client, destination = await world.client(), await world.destination()
        await client.publisher(destination).publish_many(Message(body=number) for number in range(10))
        seen: list[Any] = []

        async for delivery in client.subscriber(destination, group=world.group):
            async with delivery:
                seen.append(delivery.body)
            if len(seen) == 10:
                break

        assert sorted(seen) == list(range(10))
        assert (await remaining(client, destination, group=world.group)).bodies == []

    @requires(groups=True)
    async def test_every_group_gets_every_message(self, world: World) -> None:
        """D: fan-out to three groups, at the same time."""
        groups = [world.group_named(word) for word in ("g1", "g2", "g3")]
        client, destination = await world.client(), await world.destination(groups=groups)
        gathered = [Gathered(20) for _ in groups]

        async with _all(
            consuming(client, destination, handler, group=group)
            for group, handler in zip(groups, gathered, strict=True)
        ):
            await client.publisher(destination).publish_many(Message(body=number) for number in range(20))
            for handler in gathered:
                await handler.enough()

        assert [sorted(handler.bodies) for handler in gathered] == [list(range(20))] * 3

    @requires(groups=True)
    async def test_what_one_group_does_is_nothing_to_the_other(self, world: World) -> None:
        """D: an ack, a failure and a position belong to one group."""
        early, late = world.group_named("early"), world.group_named("late")
        client, destination = await world.client(), await world.destination(groups=(early, late))
        await client.publisher(destination).publish_many(Message(body=number) for number in range(10))
        attempts: Counter[Any] = Counter()

        async def fail_once(delivery: unimsg.Delivery[Any]) -> None:
            attempts[delivery.body] += 1
            if attempts[delivery.body] == 1 and delivery.body % 2:
                raise unimsg.Fail(delay=0)

        await client.subscriber(destination, group=early).run_until_idle(fail_once)
        gathered = await gather(client, destination, 10, group=late)

        assert attempts == {number: 1 + number % 2 for number in range(10)}
        assert sorted(gathered.bodies) == list(range(10))
        assert {delivery.attempt for delivery in gathered.deliveries} == {1}
        for group in (early, late):
            assert (await remaining(client, destination, group=group)).bodies == []

    async def test_fifty_consumers_share_the_work(self, world: World) -> None:
        """D: of five clients; each message runs, and never in two of them at the same time; promise 1."""
        count = world.scaled(5000, least=200)
        destination = await world.destination()
        clients = [await world.client() for _ in range(5)]
        running: set[int] = set()
        runs: Counter[int] = Counter()
        twice: list[int] = []

        handler = _shared(running, runs, twice)
        async with _all(
            consuming(clients[n % 5], destination, handler, group=world.group, concurrency=2)
            for n in range(CONSUMERS)
        ):
            await (
                clients[0]
                .publisher(destination)
                .publish_many(Message(body=number, key=f"k{number % 97}") for number in range(count))
            )
            await eventually(lambda: len(runs) == count, f"all {count} messages have run")

        assert set(runs) == set(range(count))
        assert twice == [], "a message ran in two consumers at the same time"
        if not world.is_log:  # a log may replay what a member had in hand when the share of another came
            assert set(runs.values()) == {1}
        assert (await remaining(clients[0], destination, group=world.group)).bodies == []

    async def test_twenty_destinations_do_not_mix(self, world: World) -> None:
        """D: one client, a consumer for each, all at the same time."""
        client = await world.client()
        destinations = [await world.destination() for _ in range(20)]
        gathered = [Gathered(5) for _ in destinations]

        async with _all(
            consuming(client, destination, handler, group=world.group, concurrency=1)
            for destination, handler in zip(destinations, gathered, strict=True)
        ):
            await asyncio.gather(
                *(client.publish(name, f"{name}/{number}") for name in destinations for number in range(5))
            )
            for handler in gathered:
                await handler.enough()

        for name, handler in zip(destinations, gathered, strict=True):
            assert sorted(handler.bodies) == [f"{name}/{number}" for number in range(5)]

    async def test_names_that_resemble_each_other_are_different(self, world: World) -> None:
        """D: isolation: one is the beginning of the other, or differs in its case only."""
        client, base = await world.client(), world.name("iso")
        names = [base, base + "-a", base + "_a", base + "-A"]
        for name in names:
            await world.provision(Topology(destination=name, groups=[world.group] if world.group else []))

        for name in names:
            await client.publish(name, name)

        for name in names:
            gathered = await gather(client, name, 1, group=world.group)
            rest = await remaining(client, name, group=world.group)
            assert [*gathered.bodies, *rest.bodies] == [name]

    @requires(wildcard=True)
    async def test_one_subscription_matches_many_destinations(self, world: World) -> None:
        """D: a filter gets what matches it, with the name it was published to, and nothing else."""
        client, base = await world.client(), world.name()
        gathered = Gathered(2)

        async with consuming(client, f"{base}/+", gathered, group=None):
            for name in (f"{base}/a", f"{base}/b", f"{base}/a/deeper", f"{base}-other/a"):
                await client.publish(name, name)
            await gathered.enough()
            await client.publish(f"{base}/a", "last")
            await eventually(lambda: "last" in gathered.bodies, "the last one comes")

        assert sorted(gathered.bodies) == sorted([f"{base}/a", f"{base}/b", "last"])

    @requires(wildcard=True)
    async def test_a_shared_subscription_shares_what_matches(self, world: World) -> None:
        """D: two members of one group get each message once between them."""
        clients, base = [await world.client(), await world.client()], world.name()
        seen: list[Any] = []

        async def note(delivery: unimsg.Delivery[Any]) -> None:
            seen.append(delivery.body)

        async with (
            consuming(clients[0], f"{base}/+", note, group="g"),
            consuming(clients[1], f"{base}/+", note, group="g"),
        ):
            for number in range(20):
                await clients[0].publish(f"{base}/{number % 3}", number)
            await eventually(lambda: len(seen) >= 20, "all have come")

        assert sorted(seen) == list(range(20))


def _shared(running: set[int], runs: Counter[int], twice: list[int]) -> Handler[Any]:
    """A handler that notes what runs, how often, and what ran in two places at the same time."""

    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        number = delivery.body
        if number in running:
            twice.append(number)
        running.add(number)
        await asyncio.sleep(0)
        runs[number] += 1
        running.discard(number)

    return handle


@asynccontextmanager
async def _all(contexts: Iterable[AbstractAsyncContextManager[Any]]) -> AsyncIterator[None]:
    """Enter all at the same time, and leave them so: some services end a poll in their own time only."""
    entered = tuple(contexts)
    await asyncio.gather(*(context.__aenter__() for context in entered))
    try:
        yield
    finally:
        await asyncio.gather(*(context.__aexit__(None, None, None) for context in entered))
