"""H: policy, times and ranks. A delay is not shortened, what has expired is not given, what is urgent goes first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.errors import CapabilityError
from unimsg.spi import Provisions, Topology
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import Gathered, World, consuming, gather, left


class Times(Section):
    """Section H of the catalogue: `delay`, `ttl` and `priority` of a publish."""

    @requires(delay="emulated")
    async def test_a_delayed_message_comes_when_it_is_due(self, world: World) -> None:
        """H: not early, and others do not wait for it; promise 11."""
        client, destination = await world.client(), await world.destination()
        clock, delay = asyncio.get_running_loop().time, 6 * world.tick
        times: dict[str, float] = {}
        gathered = Gathered(2)

        async def handle(delivery: Delivery[Any]) -> None:
            times[delivery.body] = clock()
            await gathered(delivery)

        async with consuming(client, destination, handle, group=world.group):
            started = clock()
            await client.publish(destination, "later", delay=delay)
            await client.publish(destination, "now")
            await gathered.enough()

        assert times["later"] - started >= delay - world.tick

    @requires(delay="emulated")
    async def test_others_do_not_wait_for_a_delayed_message(self, world: World) -> None:
        """H: what is due in an hour is not in the way of what comes after it; promise 11."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "later", delay=600)
        await client.publish(destination, "now")

        assert (await gather(client, destination, 1, group=world.group)).bodies == ["now"]

    @requires(ttl=True)
    async def test_an_expired_message_is_not_given(self, world: World) -> None:
        """H: nor one that expired while it waited behind others; one with time left is (see `Message.ttl`)."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "short", ttl=2 * world.tick, key="k")
        await client.publish(destination, "long", ttl=600, key="k")
        await client.publish(destination, "none", key="k")
        await asyncio.sleep(4 * world.tick)

        assert sorted(await left(client, destination, group=world.group)) == ["long", "none"]

    async def test_what_is_urgent_goes_first(self, world: World) -> None:
        """H: where priorities are to be had; else the verb is refused (see `Message.priority`)."""
        client = await world.client(priority=True)
        destination = world.name()
        if isinstance(client.backend, Provisions):
            await client.provision(
                Topology(destination=destination, groups=[world.group] if world.group else [])
            )
        if not client.capabilities.priority:
            await _refused(client, destination, priority=5)
            return
        for body, priority in (("none", None), ("low", 1), ("high", 9), ("middle", 5)):
            await client.publish(destination, body, priority=priority)

        gathered = await gather(client, destination, 4, group=world.group, concurrency=1)

        assert gathered.bodies == ["high", "middle", "low", "none"]

    async def test_a_delay_or_ttl_that_is_not_to_be_had_is_refused(self, world: World) -> None:
        """H: before the wire, and nothing is stored (see `CapabilityError`)."""
        client, destination = await world.client(), await world.destination()
        asked: dict[str, Any] = {"delay": 60, "ttl": 60}
        for name, value in asked.items():
            if getattr(client.capabilities, name) in ("none", False):
                await _refused(client, destination, **{name: value})
        await client.publish(destination, "m")

        assert await left(client, destination, group=world.group) == ["m"]


async def _refused(client: Client, destination: str, **option: Any) -> None:
    with pytest.raises(CapabilityError) as raised:
        await client.publish(destination, "never", **option)
    assert raised.value.missing == tuple(option)
