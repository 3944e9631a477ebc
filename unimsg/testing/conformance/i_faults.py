"""I: faults. Brokers die, networks are cut, members come and go, credentials expire: late is allowed, lost is not.

What is confirmed is handled at least once, and in the order of its key on first effects where order is declared. Shard
splits, merges and lease steals belong to the one backend that has shards; they stand in its own tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.errors import (
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    SettleError,
    ThrottledError,
)
from unimsg.testing.conformance.gate import Section
from unimsg.testing.conformance.world import PATIENCE, World, consuming, eventually, gather, left
from unimsg.testing.faults import Fail, Hang, Some, inject

KEYS = 8
AHEAD = 3
"""Messages of each key that producers are ahead of the consumers: so publishing and consuming go on together."""


class Stream:
    """Numbered messages of several keys, published in order until confirmed, and what was handled of them.

    Attributes:
        effects: key and number of each handled message, in the order of the effects, repetitions included.
        ends: how each single publish ended.
    """

    def __init__(self, world: World, destination: str, total: int, timeout: float = 5.0) -> None:
        self.total = total - total % KEYS
        self.effects: list[tuple[str, int]] = []
        self.ends: list[str] = []
        self._world = world
        self._destination = destination
        self._timeout = timeout
        self._seen: set[tuple[str, int]] = set()

    async def handle(self, delivery: Delivery[Any]) -> None:
        """Have an effect."""
        await asyncio.sleep(0)
        effect = (str(delivery.body["key"]), int(delivery.body["number"]))
        self.effects.append(effect)
        self._seen.add(effect)

    async def produce(self, client: Client) -> None:
        """Publish all, a little ahead of what is handled."""
        await asyncio.gather(*(self._produce(client, f"k{k}") for k in range(KEYS)))

    async def _produce(self, client: Client, key: str) -> None:
        for number in range(self.total // KEYS):
            await eventually(
                lambda: len(self._seen) >= (number - AHEAD) * KEYS,  # noqa: B023 - awaited at once
                f"consumers keep up with message {number} of {key}",
            )
            await self._surely(client, key, number)

    async def _surely(self, client: Client, key: str, number: int) -> None:
        """Publish with the same id until it is confirmed; there is no fourth end."""
        body = {"key": key, "number": number}
        while True:
            try:
                await client.publish(
                    self._destination, body, key=key, id=f"{key}-{number}", timeout=self._timeout
                )
            except NotSentError:
                self.ends.append("not published")
            except OutcomeUnknownError:
                self.ends.append("unknown")
            else:
                self.ends.append("confirmed")
                return

    async def reach(self, part: float) -> None:
        """Return when this part of all messages has been handled."""
        count = int(self.total * part)
        await eventually(lambda: len(self._seen) >= count, f"{count} of {self.total} messages are handled")

    def verify(self) -> None:
        """Nothing is missing; on first effects every key is in order, where that is declared."""
        expected = {(f"k{k}", n) for k in range(KEYS) for n in range(self.total // KEYS)}
        assert self._seen == expected
        if self._world.capabilities.ordering == "none":
            return
        for k in range(KEYS):
            firsts = list(dict.fromkeys(number for key, number in self.effects if key == f"k{k}"))
            assert firsts == sorted(firsts), f"key k{k} is out of order: {firsts}"


class Faults(Section):
    """Section I of the catalogue."""

    async def test_what_is_confirmed_outlives_the_death_of_the_broker(self, world: World) -> None:
        """I: killed at a third and at half of the way; promises 1, 2, 4."""

        async def kill_twice(stream: Stream) -> None:
            await stream.reach(1 / 3)
            await world.restart()
            await stream.reach(1 / 2)
            await world.restart()

        await _through(world, kill_twice)

    async def test_what_is_confirmed_outlives_a_cut_network(self, world: World) -> None:
        """I: nobody is told, calls just hang; promises 1, 2, 4, 8."""

        async def cut(stream: Stream) -> None:
            await stream.reach(1 / 3)
            async with world.cut():
                await asyncio.sleep(world.long_cut)  # the fault itself, not a wait for something

        await _through(world, cut, patience=world.long_cut / 3)

    async def test_members_that_join_and_leave_skip_nothing(self, world: World) -> None:
        """I: rebalance, the order of a key across it; promises 1, 6, 7."""
        random, client, destination = world.chance(), await world.client(), await world.destination()
        stream = Stream(world, destination, world.scaled(10_000))
        members: list[AsyncExitStack] = []

        async def join() -> None:
            member = AsyncExitStack()
            await member.enter_async_context(
                consuming(client, destination, stream.handle, group=world.group, concurrency=4)
            )
            members.append(member)

        await join()
        producing = asyncio.create_task(stream.produce(client))
        try:
            for part in (0.1, 0.25, 0.4, 0.55, 0.7, 0.85):
                await stream.reach(part)
                if len(members) > 1 and random.random() < 0.5:
                    await members.pop(random.randrange(len(members))).aclose()
                else:
                    await join()
            await producing
            await stream.reach(1)
        finally:
            producing.cancel()
            for member in members:
                await member.aclose()
        stream.verify()

    async def test_late_acks_of_a_lost_assignment_are_never_sent(self, world: World) -> None:
        """I: a member that is taken its share from is told, and another handles it all; promises 7, 8."""
        count = 40
        client, other = world.connect(drain=world.tick), await world.client()
        faults, destination = inject(client), await world.destination()
        for number in range(count):
            await other.publish(destination, number, key=f"k{number}")
        go, stuck = asyncio.Event(), asyncio.Event()
        started: list[int] = []
        sent_late: list[Any] = []
        told: set[int] = set()
        done: set[int] = set()

        def look(_: int, settlement: Any) -> None:
            if settlement.assignment is not None and not settlement.assignment.live:
                sent_late.append(settlement)

        async def hold_most(delivery: Delivery[Any]) -> None:
            started.append(delivery.body)
            try:
                if len(started) > 4:
                    stuck.set()
                    await go.wait()
                elif len(started) > 1:  # done while the ack of the first is under way
                    await eventually(lambda: faults.calls["settle"], "the first ack is sent")
            except asyncio.CancelledError:
                assert delivery.lease_lost
                with pytest.raises(SettleError):
                    await delivery.ack()
                told.add(delivery.body)
                raise
            done.add(delivery.body)

        async def handle(delivery: Delivery[Any]) -> None:
            done.add(delivery.body)

        faults.next("settle", Hang(until=go))
        faults.always("settle", Some(look))
        await client.__aenter__()
        async with consuming(client, destination, hold_most, group=world.group, concurrency=4, order="none"):
            await eventually(stuck.is_set, "a handler runs while an ack is under way")
            async with consuming(other, destination, handle, group=world.group):
                await _share_moved(world, told)
                go.set()
                await eventually(lambda: len(done) == count, f"all {count} are handled")
        assert sent_late == []

    async def test_a_consumer_killed_in_the_middle_of_a_batch_loses_nothing(self, world: World) -> None:
        """I: kill -9 with half of the messages in hand; promises 1, 5."""
        destination = await world.destination()
        client = await world.client(lease=world.lease)
        bodies = [f"m{number}" for number in range(20)]
        for body in bodies:
            await client.publish(destination, body, key=body)
        victim = await world.victim(destination, lease=world.lease)
        held = await victim.holds(10)
        await victim.kill()

        gathered = await gather(client, destination, 20, group=world.group)

        assert sorted(gathered.bodies) == sorted(bodies)
        if world.capabilities.lease is not None:
            again = {delivery.body for delivery in gathered.deliveries if delivery.deliveries > 1}
            assert set(held) <= again

    async def test_a_consumer_recovers_when_its_credentials_are_renewed(self, world: World) -> None:
        """I: expired credentials turn health red, and end nothing; rule 7 of the contract."""
        client = world.connect(lease=world.lease)
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        got: list[Any] = []

        async def handle(delivery: Delivery[Any]) -> None:
            got.append(delivery.body)

        denied = PermissionDeniedError("the credentials have expired, says the test")
        async with consuming(client, destination, handle, group=world.group):
            faults.always("receive", Fail(denied))
            faults.next("open_receiver", Fail(denied), Fail(denied))
            faults.cut()
            await eventually(lambda: client.health().reasons, "health says that something is wrong")
            assert not client.health().ready
            assert client.health().live
            faults.always("receive", None)
            await client.publish(destination, "renewed")
            await eventually(lambda: got == ["renewed"], "the message after the renewal is handled")
            await eventually(lambda: client.health().ready, "health is well again")

    async def test_throttling_slows_down_and_loses_nothing(self, world: World) -> None:
        """I: refused sends, receives and settlements are made again on the same link; promises 2, 3, 5, 12."""
        client = world.connect(lease=world.lease)
        faults, destination = inject(client), await world.destination()
        slow = ThrottledError("too many requests, says the test", retry_after=world.tick)
        await client.__aenter__()
        faults.next("send", Some(lambda _at, _message: slow))
        receipt = await client.publish(destination, "one")
        sent = [message.id for batch in faults.sent for message in batch]
        assert sent == [receipt.id, receipt.id]

        faults.next("receive", Fail(slow), Fail(slow))
        faults.next("settle", Some(lambda _at, _settlement: slow), Fail(slow))
        gathered = await gather(client, destination, 1, group=world.group)

        assert gathered.bodies == ["one"]
        assert faults.calls["open_receiver"] == 1
        assert faults.calls["settle"] >= 3
        assert await left(client, destination, group=world.group) == []

    async def test_a_cancelled_long_poll_strands_nothing(self, world: World) -> None:
        """I: what comes while a consumer stops goes to the next one at once; promise 17."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        bodies = [f"m{number}" for number in range(30)]

        async def publish() -> None:
            for body in bodies:
                await client.publish(destination, body, key=body)
                await asyncio.sleep(0)

        got: list[Any] = []

        async def handle(delivery: Delivery[Any]) -> None:
            got.append(delivery.body)

        async with consuming(client, destination, handle, group=world.group) as subscriber:
            await eventually(lambda: faults.calls["receive"], "it polls")
            await asyncio.gather(publish(), subscriber.aclose())
        if len(set(got)) < len(bodies):
            rest = await gather(client, destination, len(bodies) - len(set(got)), group=world.group)
            assert all(delivery.attempt == 1 for delivery in rest.deliveries)
            got += rest.bodies

        assert set(got) == set(bodies)

    async def test_no_loss_of_connection_is_permanent(self, world: World) -> None:
        """I: cut, down for a while, a bug in the client library: the next message is handled; promise 1."""
        client = world.connect(lease=world.lease)
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        got: set[Any] = set()

        async def handle(delivery: Delivery[Any]) -> None:
            got.add(delivery.body)

        async def still_works(body: str) -> None:
            await client.publish(destination, body, timeout=PATIENCE)
            await eventually(lambda: body in got, f"{body!r} is handled")

        async with consuming(client, destination, handle, group=world.group):
            await still_works("before")
            faults.cut()
            await still_works("after a cut")
            async with faults.down():
                await eventually(lambda: faults.calls["open_receiver"] >= 3, "it tries to open again")
            await still_works("after the service was down")
            faults.next("receive", Fail(RuntimeError("a bug in the client library, says the test")))
            faults.cut()
            await still_works("after a bug")


async def _through(
    world: World, fault: Callable[[Stream], Awaitable[None]], *, patience: float = 5.0
) -> None:
    """Publish and consume a stream through a fault."""
    destination = await world.destination()
    consumer, producer = await world.client(lease=world.lease), await world.client()
    stream = Stream(world, destination, world.scaled(10_000), patience)
    async with consuming(consumer, destination, stream.handle, group=world.group):
        async with _together(stream.produce(producer)):
            await fault(stream)
        await stream.reach(1)
    stream.verify()


@asynccontextmanager
async def _together(work: Any) -> AsyncIterator[None]:
    """Do the work beside the block, and return when both are done."""
    task = asyncio.create_task(work)
    try:
        yield
        await task
    finally:
        task.cancel()


async def _share_moved(world: World, told: set[int]) -> None:
    """Return when the first member has lost something, on a backend where joining takes from others."""
    if world.capabilities.ordering == "partition":
        await eventually(lambda: told, "the first member is told what it lost")
