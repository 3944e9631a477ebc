"""A: lifecycle. Opening, closing, using what is closed; nothing leaks, nothing hangs, nothing is made uninvited."""

from __future__ import annotations

import asyncio

import pytest

from unimsg.errors import ClosedError
from unimsg.testing.conformance.gate import Section
from unimsg.testing.conformance.world import PATIENCE, World, gather


class Lifecycle(Section):
    """Section A of the catalogue."""

    async def test_use_after_close_is_refused(self, world: World) -> None:
        """Publisher, subscriber and client say that they are closed, and nothing is sent."""
        client = await world.client()
        destination = await world.destination()
        publisher = client.publisher(destination)
        subscriber = client.subscriber(destination, group=world.group)
        await client.aclose()

        with pytest.raises(ClosedError):
            await publisher.publish("late")
        with pytest.raises(ClosedError):
            await client.publish(destination, "late")
        with pytest.raises(ClosedError):
            async for _ in subscriber:
                pass
        with pytest.raises(ClosedError):
            client.publisher(destination)

    async def test_closing_twice_is_closing_once(self, world: World) -> None:
        """Also when both happen at the same time."""
        client = await world.client()
        destination = await world.destination()
        await client.publish(destination, "one")

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(client.aclose(), client.aclose())
            await client.aclose()

    async def test_a_closed_client_leaves_its_messages(self, world: World) -> None:
        """What one client has published, the next one receives."""
        destination = await world.destination()
        first = await world.client()
        await first.publish(destination, "kept")
        await first.aclose()

        second = await world.client()
        gathered = await gather(second, destination, 1, group=world.group)

        assert gathered.bodies == ["kept"]
