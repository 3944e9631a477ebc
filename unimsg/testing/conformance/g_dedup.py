"""G: dedup. A second publish of the same id is no second message; a second message of the same key no second effect."""

from __future__ import annotations

import asyncio
from typing import Any

import unimsg
from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.spi import Provisions, Topology
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import World, consuming, eventually, gather, left, quick

WINDOW = 0.8
"""Seconds of the dedup window, where an option can set it."""


class Dedup(Section):
    """Section G of the catalogue."""

    @requires(dedup="window")
    async def test_an_id_is_stored_once_within_the_window(self, world: World) -> None:
        """G: from the same publisher, from another, and at the same time; promise 3."""
        one, two = await world.client(), await world.client()
        destination = await world.destination()
        await one.publish(destination, "first", id="same", key="k")
        again = [client.publish(destination, "again", id="same", key="k") for client in (one, two, one, two)]
        receipts = await asyncio.gather(*again)
        await one.publish(destination, "other", id="other", key="k")

        assert {receipt.id for receipt in receipts} == {"same"}
        assert await left(one, destination, group=world.group) == ["first", "other"]

    @requires(dedup="window")
    async def test_an_id_is_stored_again_after_the_window(self, world: World) -> None:
        """G: the window is no longer than it says (see `Capabilities.dedup_window`)."""
        client = await world.client(dedup=WINDOW)
        if client.capabilities.dedup_window != WINDOW:
            world.cannot(f"the window is {client.capabilities.dedup_window} s, whatever one asks for")
        destination = world.name()
        if isinstance(client.backend, Provisions):
            await client.provision(
                Topology(destination=destination, groups=[world.group] if world.group else [])
            )

        await client.publish(destination, "first", id="same", key="k")
        await client.publish(destination, "within", id="same", key="k")
        await asyncio.sleep(WINDOW + world.tick)
        await client.publish(destination, "after", id="same", key="k")

        assert await left(client, destination, group=world.group) == ["first", "after"]

    @requires(dedup="window")
    async def test_an_id_is_known_in_its_own_destination_only(self, world: World) -> None:
        """G: scope; the same id elsewhere is another message, and the same body under another id is too."""
        client = await world.client()
        here, there = await world.destination(), await world.destination()
        for destination in (here, there):
            await client.publish(destination, "m", id="same", key="k")
        await client.publish(here, "m", id="another", key="k")

        assert await left(client, here, group=world.group) == ["m", "m"]
        assert await left(client, there, group=world.group) == ["m"]

    @requires(delivery="transactional")
    async def test_nothing_comes_again_after_a_confirmed_ack(self, world: World) -> None:
        """G: also when broker and consumer go right afterwards; promise 1."""
        destination = await world.destination()
        client = await world.client()
        for number in range(10):
            await client.publish(destination, number)
        await gather(client, destination, 10, group=world.group)
        await world.restart()

        assert await left(await world.brief(), destination, group=world.group) == []

    # ------------------------------------------------------------ the decorator

    async def test_an_idempotent_handler_that_fails_first_has_one_effect(self, world: World) -> None:
        """G: the failure gives the claim back, the success keeps it; promises 5, 22, 25."""
        client, destination = await world.brief(), await world.destination()
        effects: list[int] = []
        store = unimsg.store("memory://")

        @unimsg.idempotent(store, key=lambda delivery: delivery.body, lock=lock(world))
        async def handle(delivery: Delivery[Any]) -> None:
            if delivery.attempt < 3:
                raise unimsg.Fail("not yet")
            effects.append(delivery.attempt)

        async with consuming(
            client, destination, handle, group=world.group, order="none", retry=quick(world)
        ) as subscriber:
            await client.publish(destination, "once")
            await acked([subscriber], 1)
            for _ in range(3):
                await client.publish(destination, "once")
            await acked([subscriber], 4)

        assert effects == [3]
        assert subscriber.health().counters["duplicates"] == 3

    async def test_concurrent_duplicates_run_once(self, world: World) -> None:
        """G: in two consumers at once, while the first runs; the others wait, then are acked; promises 23, 25."""
        destination, store = await world.destination(), unimsg.store("memory://")
        clients: list[Client] = [await world.brief(), await world.brief()]
        effects: list[int] = []
        go = asyncio.Event()

        @unimsg.idempotent(store, key=lambda delivery: delivery.body, lock=lock(world))
        async def handle(delivery: Delivery[Any]) -> None:
            effects.append(delivery.fencing_token)
            await go.wait()

        settings: dict[str, Any] = {"group": world.group, "order": "none"}
        async with (
            consuming(clients[0], destination, handle, **settings) as one,
            consuming(clients[1], destination, handle, **settings) as two,
        ):
            for _ in range(6):
                await clients[0].publish(destination, "once")
            await eventually(
                lambda: effects and counted([one, two], "deferred"),
                "the first runs, and a duplicate waits meanwhile",
            )
            assert len(effects) == 1
            go.set()
            await acked([one, two], 6)

        assert len(effects) == 1
        assert counted([one, two], "duplicates") == 5


def lock(world: World) -> float:
    """Return a short claim, shorter than the lease of a `brief` client."""
    return 0.8 * (world.lease or 0.5)


def counted(subscribers: list[unimsg.Subscriber[Any]], outcome: str) -> int:
    """Return how often an outcome was counted."""
    return sum(subscriber.health().counters.get(outcome, 0) for subscriber in subscribers)


async def acked(subscribers: list[unimsg.Subscriber[Any]], count: int) -> None:
    """Return when so many are acked."""
    await eventually(lambda: counted(subscribers, "acked") >= count, f"{count} messages are acked")
