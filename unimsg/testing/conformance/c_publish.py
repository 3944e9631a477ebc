"""C: publish. Confirmed, not published or unknown: each message has one end, and it is the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any

import pytest

import unimsg
from unimsg.errors import CapabilityError, UnroutableError
from unimsg.message import Message, Receipt
from unimsg.testing.conformance.gate import Section
from unimsg.testing.conformance.world import (
    PATIENCE,
    Gathered,
    World,
    consuming,
    eventually,
    gather,
    limits_of,
    remaining,
)
from unimsg.testing.faults import Hang, inject

FULL = 5
"""Messages of a batch, where a test says so."""


class Publish(Section):
    """Section C of the catalogue."""

    async def test_many_are_each_confirmed_in_the_order_given(self, world: World) -> None:
        """C: one receipt for each, and each arrives with its own body and id; promises 2, 3."""
        client, destination = await world.client(), await world.destination()
        messages = [Message(body=number, id=f"m{number}", key=f"k{number % 7}") for number in range(100)]

        receipts = await client.publisher(destination).publish_many(messages)
        gathered = await gather(client, destination, 100, group=world.group)

        assert [receipt.id for receipt in receipts] == [message.id for message in messages]
        assert {d.id: d.body for d in gathered.deliveries} == {f"m{number}": number for number in range(100)}

    async def test_batches_of_many_tasks_do_not_mix_up_their_receipts(self, world: World) -> None:
        """C: at the same time, by one publisher and by two, alone and as many; promise 2."""
        client, destination = await world.client(), await world.destination()
        publishers = [client.publisher(destination), client.publisher(destination)]

        async def many(task: int) -> list[Receipt]:
            return await publishers[task % 2].publish_many(
                Message(body=f"{task}-{number}", id=f"{task}-{number}") for number in range(20)
            )

        async def alone(task: int) -> list[Receipt]:
            return [
                await publishers[task % 2].publish(f"{task}-{number}", id=f"{task}-{number}")
                for number in range(5)
            ]

        answers = await asyncio.gather(*(many(task) if task < 5 else alone(task) for task in range(10)))
        gathered = await gather(client, destination, 125, group=world.group)

        for task, receipts in enumerate(answers):
            assert [r.id for r in receipts] == [f"{task}-{number}" for number in range(20 if task < 5 else 5)]
        assert all(d.id == d.body for d in gathered.deliveries)
        assert sorted(gathered.bodies) == sorted(r.id or "" for receipts in answers for r in receipts)

    # ------------------------------------------------------------ when a batch goes out

    async def test_a_full_batch_goes_out_at_once(self, world: World) -> None:
        """C: by count; what does not fill one waits while another is under way; promise 19."""
        await _fills(world, {"max_messages": FULL}, ["x"] * FULL)

    async def test_a_batch_that_is_full_by_its_bytes_goes_out_at_once(self, world: World) -> None:
        """C: by bytes; no batch has more than the limit; promise 19."""
        client = await world.client()
        limits = await limits_of(client, await world.destination())
        size = limits.measure(Message(body=b'"' + b"x" * 1000 + b'"', id="m0", timestamp=1.5e9))
        await _fills(world, {"max_bytes": size * FULL + size // 2}, ["x" * 1000] * FULL, one_more=True)

    async def test_a_batch_that_is_not_full_goes_out_after_the_linger(self, world: World) -> None:
        """C: it waits for company while another is under way, and not for its answer."""
        client, destination = world.connect(), await world.destination()
        faults, go = inject(client), asyncio.Event()
        await client.__aenter__()
        await client.publish(destination, "first")
        parallel = (await limits_of(client, destination)).in_flight > 1
        faults.next("send", Hang(until=go))

        slow = asyncio.create_task(client.publish(destination, "slow"))
        await eventually(lambda: faults.calls["send"] == 2, "the slow one is under way")
        lonely = asyncio.create_task(client.publish(destination, "lonely"))
        if parallel:
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(lonely)
            assert not slow.done()
        go.set()
        await asyncio.gather(slow, lonely)

        gathered = await gather(client, destination, 3, group=world.group)
        assert sorted(gathered.bodies) == ["first", "lonely", "slow"]

    async def test_what_nobody_can_receive_is_not_confirmed(self, world: World) -> None:
        """C: without a group either it is kept for the first one, or the publish fails as unroutable; promise 2."""
        client, destination = await world.client(), await world.destination(groups=())
        with suppress(UnroutableError):
            await client.publish(destination, "one")
            gathered = await gather(client, destination, 1, group=world.group)
            assert gathered.bodies == ["one"]

    # ------------------------------------------------------------ closing, cancelling, refusing

    async def test_closing_publishes_what_was_accepted(self, world: World) -> None:
        """C: each caller gets its receipt, though the publisher is closed meanwhile; promise 17."""
        client, destination = world.connect(), await world.destination()
        faults, go = inject(client), asyncio.Event()
        await client.__aenter__()
        publisher = client.publisher(destination)
        await publisher.publish(0)
        faults.next("send", Hang(until=go))
        tasks = [asyncio.create_task(publisher.publish(number)) for number in range(1, 20)]
        await eventually(lambda: publisher.stats.accepted == 20, "all are accepted")

        close = asyncio.create_task(client.aclose())
        go.set()
        async with asyncio.timeout(PATIENCE):
            receipts = await asyncio.gather(*tasks)
            await close

        assert len({receipt.id for receipt in receipts}) == 19
        gathered = await gather(await world.client(), destination, 20, group=world.group)
        assert sorted(gathered.bodies) == list(range(20))

    async def test_a_publish_cancelled_before_it_left_is_withdrawn(self, world: World) -> None:
        """C: it is never sent, and its neighbours are; promise 2."""
        client, destination = world.connect(), await world.destination()
        faults, go = inject(client), asyncio.Event()
        await client.__aenter__()
        faults.next("open_sender", Hang(until=go))
        tasks = [asyncio.create_task(client.publish(destination, number)) for number in range(3)]
        await eventually(lambda: faults.calls["open_sender"], "they wait for a way out")

        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        go.set()
        await asyncio.gather(tasks[0], tasks[2])

        assert tasks[1].cancelled()
        assert sorted((await gather(client, destination, 2, group=world.group)).bodies) == [0, 2]
        assert sorted(message.body or b"" for batch in faults.sent for message in batch) == [b"0", b"2"]

    async def test_a_publish_cancelled_after_it_left_disturbs_nobody(self, world: World) -> None:
        """C: it arrives at most once, those that share its batch are confirmed; promise 2."""
        client, destination = world.connect(), await world.destination()
        faults, go = inject(client), asyncio.Event()
        await client.__aenter__()
        await client.publish(destination, "first")
        faults.next("send", Hang(until=go))
        tasks = [
            asyncio.create_task(client.publish(destination, number, id=f"m{number}")) for number in range(3)
        ]
        await eventually(lambda: faults.calls["send"] == 2, "they are handed over")

        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        go.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(tasks[0], tasks[2])
        await client.publish(destination, "last")

        assert tasks[1].cancelled()
        gathered = await gather(client, destination, 4, group=world.group)
        rest = await remaining(client, destination, group=world.group)
        arrived = Counter(map(str, (*gathered.bodies, *rest.bodies)))
        assert arrived.pop("1", 0) <= 1
        assert arrived == {"first": 1, "0": 1, "2": 1, "last": 1}

    async def test_a_verb_that_asks_for_too_much_is_refused_before_the_wire(self, world: World) -> None:
        """C: delay, ttl, priority and headers, where the backend has none; what it has is taken; principle 1."""
        client, have = world.connect(), world.capabilities
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        asked: Mapping[str, Mapping[str, Any]] = {
            "delay": {"delay": world.tick},
            "ttl": {"ttl": 3600},
            "priority": {"priority": 5},
            "headers": {"headers": {"h": "value"}},
        }

        taken = [name for name in asked if getattr(have, name) not in (False, "none")]
        for name in asked.keys() - set(taken):
            with pytest.raises(CapabilityError) as raised:
                await client.publish(destination, name, **asked[name])
            assert raised.value.missing == (name,)
        assert faults.sent == []

        for name in taken:
            await client.publish(destination, name, **asked[name])
        gathered = await gather(client, destination, len(taken), group=world.group)
        assert sorted(gathered.bodies) == sorted(taken)

    async def test_a_client_publishes_while_it_consumes(self, world: World) -> None:
        """C: a handler publishes by its delivery, and waits for the confirmation; promise 2."""
        client = await world.client()
        first, second = await world.destination(), await world.destination()

        async def forward(delivery: unimsg.Delivery[Any]) -> None:
            await delivery.publish(second, delivery.body + 1, key=delivery.key)

        async with consuming(client, first, forward, group=world.group):
            for number in range(10):
                await client.publish(first, number, key="k")
            gathered = await gather(client, second, 10, group=world.group)
        assert sorted(gathered.bodies) == list(range(1, 11))
        assert {d.key for d in gathered.deliveries} == {"k"}


async def _fills(
    world: World, limits: Mapping[str, float], bodies: Iterable[str], *, one_more: bool = False
) -> None:
    """Publish, while another batch is under way, one message after the other until a batch is full."""
    client, destination = world.connect(), await world.destination()
    faults, go = inject(client), asyncio.Event()
    faults.limits = {**limits, "linger": 3600.0}
    await client.__aenter__()
    own = await limits_of(client, destination)
    if own.in_flight == 1 or own.batch_is_lane:
        world.cannot("here a batch is what has gathered while the one before it was under way")
    publisher = client.publisher(destination)
    await publisher.publish("first")
    faults.next("send", Hang(until=go))
    slow = asyncio.create_task(publisher.publish("slow"))
    await eventually(lambda: faults.calls["send"] == 2, "the slow one is under way")

    *some, last = bodies
    tasks = [asyncio.create_task(publisher.publish(body)) for body in some]
    await eventually(lambda: publisher.stats.accepted == 2 + len(some), "all but one are accepted")
    await asyncio.sleep(world.tick)
    assert faults.calls["send"] == 2, "a batch that is not full did not wait"
    tasks += [asyncio.create_task(publisher.publish(last)) for _ in range(1 + one_more)]
    await eventually(lambda: faults.calls["send"] == 3, "the batch is full and goes out")
    assert not slow.done()
    assert len(faults.sent[2]) == FULL
    go.set()
    await publisher.flush()
    await asyncio.gather(slow, *tasks)

    gathered = Gathered(2 + len(tasks))
    async with consuming(client, destination, gathered, group=world.group):
        await gathered.enough()
    assert [len(list(same)) for _, same in groupby(sorted(gathered.bodies))] == [1, 1, len(tasks)]
