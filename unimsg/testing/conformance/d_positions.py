"""D: delivery, for who comes late: where a group begins, what waits for it, and how it goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

import unimsg
from unimsg.errors import BackendError, CapabilityError
from unimsg.message import Message, Position
from unimsg.spi import Topology
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import Gathered, World, consuming, eventually, gather, remaining
from unimsg.testing.faults import inject


class Positions(Section):
    """Section D of the catalogue: late, offline and moved groups."""

    @requires(groups=True)
    async def test_a_late_group_sees_the_old_where_there_is_replay_and_else_only_the_new(
        self, world: World
    ) -> None:
        """D: and never something in between."""
        first, late = world.group_named("first"), world.group_named("late")
        client, destination = await world.client(), await world.destination(groups=(first,))
        await client.publish(destination, "old")
        await world.provision(Topology(destination=destination, groups=[first, late]))
        expected = ["new", "old"] if world.capabilities.replay != "none" else ["new"]

        gathered = Gathered(len(expected))
        async with consuming(client, destination, gathered, group=late):
            await client.publish(destination, "new")
            await gathered.enough()

        assert sorted(gathered.bodies) == expected
        assert (await remaining(client, destination, group=late)).bodies == []

    async def test_what_was_published_before_anybody_listened_waits(self, world: World) -> None:
        """D: created after produce: the consumer comes when all its producers are gone; promise 2."""
        destination = await world.destination()
        async with await world.client() as producer:
            await producer.publisher(destination).publish_many(Message(body=number) for number in range(10))

        gathered = await gather(await world.client(), destination, 10, group=world.group)

        assert sorted(gathered.bodies) == list(range(10))

    async def test_what_was_published_while_a_group_was_away_waits(self, world: World) -> None:
        """D: offline: the group goes on where it was, with nothing missing and nothing twice; promise 7."""
        destination, client = await world.destination(), await world.client()
        await client.publish(destination, "before")
        async with await world.client() as consumer:
            first = await gather(consumer, destination, 1, group=world.group)
        await client.publisher(destination).publish_many(Message(body=f"away {n}") for n in range(10))

        async with await world.client() as consumer:
            second = await gather(consumer, destination, 10, group=world.group)
            rest = await remaining(consumer, destination, group=world.group)

        assert first.bodies == ["before"]
        assert sorted(second.bodies) == [f"away {n}" for n in range(10)]
        assert rest.bodies == []

    @requires(durability="disk")
    async def test_what_nobody_has_received_outlives_the_broker(self, world: World) -> None:
        """D: created after produce, with a restart between; promise 2."""
        destination = await world.destination()
        async with await world.client() as producer:
            await producer.publisher(destination).publish_many(Message(body=number) for number in range(10))
        await world.restart()

        gathered = await gather(await world.client(), destination, 10, group=world.group)

        assert sorted(gathered.bodies) == list(range(10))

    @requires(durability="disk")
    async def test_a_group_that_is_away_outlives_the_broker(self, world: World) -> None:
        """D: offline session: what it has acked stays acked, what came meanwhile waits; promises 2, 7."""
        destination, client = await world.destination(), await world.client()
        await client.publisher(destination).publish_many(Message(body=f"before {n}") for n in range(5))
        async with await world.client() as consumer:
            await gather(consumer, destination, 5, group=world.group)
        await client.publish(destination, "away")
        await client.aclose()
        await world.restart()

        consumer = await world.client()
        gathered = await gather(consumer, destination, 1, group=world.group)
        rest = await remaining(consumer, destination, group=world.group)

        assert [*gathered.bodies, *rest.bodies] == ["away"]

    async def test_a_group_is_asked_for_where_there_are_groups_and_refused_where_there_are_none(
        self, world: World
    ) -> None:
        """D: before any message moves; a plain subscription only where one can be had; principle 1."""
        client, have = world.connect(), world.capabilities
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        if have.groups and have.wildcard:
            world.cannot("here a subscription without a group is a plain one")

        with pytest.raises(CapabilityError) as raised:
            await client.subscriber(destination, group=None if have.groups else "a-group").run(Gathered(1))

        assert raised.value.missing == ("groups",)
        assert faults.calls["receive"] == 0

    # ------------------------------------------------------------ where a group begins

    @requires(replay="position", groups=True)
    async def test_a_group_starts_at_the_oldest_or_at_the_newest(self, world: World) -> None:
        """D: oldest is the default; a group that has a position keeps it, whatever is asked for."""
        client, destination = await world.client(), await world.destination(groups=())
        await client.publisher(destination).publish_many(Message(body=f"old {n}") for n in range(5))
        newest, started, at_the_end = Gathered(1), Gathered(5), world.group_named("newest")

        async with consuming(client, destination, newest, group=at_the_end, start="newest") as subscriber:
            await _joined(world, subscriber)
            await client.publish(destination, "new")
            await newest.enough()
        async with consuming(client, destination, started, group=world.group_named("oldest")):
            await started.enough()
        await client.publish(destination, "last")
        again = await gather(client, destination, 1, group=at_the_end, start="oldest")

        assert newest.bodies == ["new"]
        assert (
            {f"old {n}" for n in range(5)} <= set(started.bodies) <= {f"old {n}" for n in range(5)} | {"new"}
        )
        assert again.bodies == ["last"]

    @requires(replay="time", groups=True)
    async def test_a_group_starts_at_a_time(self, world: World) -> None:
        """D: with what was published from then on."""
        client, destination = await world.client(), await world.destination(groups=())
        await client.publisher(destination).publish_many(Message(body=f"old {n}") for n in range(5))
        await asyncio.sleep(world.tick)  # so that the moment is between them on the broker's clock
        moment = datetime.now(UTC)
        await asyncio.sleep(world.tick)
        await client.publisher(destination).publish_many(Message(body=f"new {n}") for n in range(5))

        gathered = await gather(client, destination, 5, group=world.group, start=moment)

        assert sorted(gathered.bodies) == [f"new {n}" for n in range(5)]
        assert (await remaining(client, destination, group=world.group)).bodies == []

    @requires(replay="position", groups=True)
    async def test_a_group_starts_at_a_position(self, world: World) -> None:
        """D: with the message that stands there."""
        client, destination = await world.client(), await world.destination(groups=())
        await _one_lane(client, destination)
        first = await gather(client, destination, 10, group=world.group_named("first"), concurrency=1)
        there = _position(first, 6)

        gathered = await gather(client, destination, 4, group=world.group, start=there, concurrency=1)

        assert [body for body in gathered.bodies if body >= 0] == [6, 7, 8, 9]

    @requires(replay="position", groups=True)
    async def test_seek_moves_the_whole_group(self, world: World) -> None:
        """D: back to a position, and for all its members; refused while another member lives."""
        client, destination, group = await world.client(), await world.destination(), world.group
        await _one_lane(client, destination)
        first = await gather(client, destination, 10, group=group, concurrency=1)
        there = _position(first, 3)
        assert (await remaining(client, destination, group=group)).bodies == []

        await client.subscriber(destination, group=group).seek(there)
        again = await gather(client, destination, 7, group=group, concurrency=1)
        async with consuming(client, destination, Gathered(1), group=group) as member:
            await _joined(world, member)
            with pytest.raises(BackendError):
                await client.subscriber(destination, group=group).seek(there)

        assert again.bodies == list(range(3, 10))
        assert (await remaining(client, destination, group=group)).bodies == []

    async def test_what_the_backend_cannot_replay_is_refused(self, world: World) -> None:
        """D: start at a position or a time, and seek, by the verb that asks for it; principle 1."""
        client, destination = await world.client(), await world.destination()
        starts: Sequence[tuple[str, Any]] = (
            ("position", Position(partition=destination, offset=0)),
            ("time", datetime.now(UTC)),
        )
        levels = ("none", "position", "time")
        refused = [s for level, s in starts if levels.index(level) > levels.index(world.capabilities.replay)]
        for start in refused:
            with pytest.raises(CapabilityError) as raised:
                client.subscriber(destination, group=world.group, start=start)
            assert raised.value.missing == ("replay",)
            with pytest.raises(CapabilityError):
                await client.subscriber(destination, group=world.group).seek(start)

        await client.publish(destination, "still works")
        assert (await gather(client, destination, 1, group=world.group)).bodies == ["still works"]


async def _joined(world: World, subscriber: unimsg.Subscriber[Any]) -> None:
    """Return when a member has its share, where members are given one."""
    if world.is_log:
        await eventually(lambda: subscriber.health().assignments, "the member has its share")


async def _one_lane(client: unimsg.Client, destination: str) -> None:
    """Publish ten messages that stand one after the other."""
    await client.publisher(destination).publish_many(Message(body=number, key="k") for number in range(10))


def _position(gathered: Gathered, body: int) -> Position:
    (position,) = [d.position for d in gathered.deliveries if d.body == body]
    assert position is not None
    return position
