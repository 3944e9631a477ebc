"""F: ordering. What one publisher sent under one key has its effects in that order, whatever fails or moves.

A check is of first effects and of every key whole: it finds a gap, a swap and a loss, also where something failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any

import pytest

import unimsg
from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.errors import Error
from unimsg.message import WireMessage
from unimsg.spi import SendLimits
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.sequences import LateRefusal, Reordering, Sequences, publish_all, refusal
from unimsg.testing.conformance.world import World, consuming, eventually, quick
from unimsg.testing.faults import Fail, Some, around, inject

mark: ContextVar[str] = ContextVar("mark", default="clean")


class Ordering(Section):
    """Section F of the catalogue."""

    @requires(ordering="key")
    async def test_one_consumer_handles_each_key_in_order(self, world: World) -> None:
        """F: with more workers than keys; promises 4, 6."""
        client, destination, sequences = await world.client(), await world.destination(), Sequences(5, 20)
        await publish_all(client, destination, sequences.messages())

        async with consuming(client, destination, sequences.handler(), group=world.group, order="key"):
            await sequences.all_done()

        sequences.verify()

    @requires(ordering="key")
    async def test_many_consumers_handle_each_key_in_order(self, world: World) -> None:
        """F: while they come and while messages come; promises 4, 6."""
        destination, sequences = await world.destination(), Sequences(12, 12)
        publisher = await world.client()

        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(
                    consuming(
                        await world.client(),
                        destination,
                        sequences.handler(),
                        group=world.group,
                        order="key",
                    )
                )
            await publish_all(publisher, destination, sequences.messages())
            await sequences.all_done()

        sequences.verify()

    @requires(ordering="key")
    async def test_a_failed_head_holds_its_key_while_others_go_on(self, world: World) -> None:
        """F: the head fails until all other keys are through; then its key goes on in order; promises 6, 16."""
        await _held_head(world, lambda: unimsg.Fail("others first"))

    @requires(ordering="key")
    async def test_a_deferred_head_holds_its_key_too(self, world: World) -> None:
        """F: as a failed one; promises 6, 9."""
        await _held_head(world, lambda: unimsg.Defer(world.tick))

    # ------------------------------------------------------------ publishing that fails in part

    @requires(ordering="key")
    async def test_a_partial_publish_failure_keeps_each_key_in_order(self, world: World) -> None:
        """F: calls and, where that is possible, single entries are refused, again and again; promise 4."""
        destination, sequences = await world.destination(), Sequences(4, 15)
        client = world.connect()
        faults, chance = inject(client), world.chance()
        await client.__aenter__()
        in_part = can_fail_in_part(await send_limits(client, destination))

        def choose(_: int, __: Any) -> Error | None:
            return refusal() if chance.random() < 0.3 else None

        some = Some(choose) if in_part else None
        faults.next("send", Fail(refusal()), some, some, Fail(refusal()), some, some, some)
        await publish_all(client, destination, sequences.messages())

        async with consuming(client, destination, sequences.handler(), group=world.group, order="key"):
            await sequences.all_done()

        assert len(faults.sent) >= 2, "nothing was sent again, so nothing was proved"
        sequences.verify()

    @requires(ordering="key")
    async def test_two_of_a_key_in_a_batch_that_fails_in_part_stay_in_order(self, world: World) -> None:
        """F: where a batch can fail in part it never holds two of a key; the first of one is refused; promise 4."""
        destination, sequences = await world.destination(), Sequences(2, 6)
        client = world.connect()
        faults = inject(client)
        await client.__aenter__()
        in_part = can_fail_in_part(await send_limits(client, destination))
        refused: list[WireMessage] = []

        def choose(_: int, message: WireMessage) -> Error | None:
            if message.key != sequences.keys[0] or len(refused) > 2:
                return None
            refused.append(message)
            return refusal()

        faults.always("send", Some(choose) if in_part else None)
        if not in_part:
            faults.next("send", Fail(refusal()))
        await publish_all(client, destination, sequences.messages())

        async with consuming(client, destination, sequences.handler(), group=world.group, order="key"):
            await sequences.all_done()

        sequences.verify()
        if in_part:
            assert len(refused) == 3
            for batch in faults.sent:
                keys = [message.key for message in batch]
                assert len(keys) == len(set(keys)), "a batch that can fail in part holds two of a key"

    @requires(ordering="key")
    async def test_a_call_that_fails_late_is_not_overtaken(self, world: World) -> None:
        """F: while it is out, what follows it under its key waits; promise 4."""
        client, destination = world.connect(), await world.destination()
        client._session.backend = around(client.backend, LateRefusal(world.tick))  # noqa: SLF001 - this goes between
        await client.__aenter__()
        if (await send_limits(client, destination)).lane(WireMessage(body=b"", key="k")) is None:
            world.cannot("a call is over before the next can begin")
        sequences = Sequences(2, 10)

        async with asyncio.TaskGroup() as tasks:
            for message in sequences.messages():
                tasks.create_task(client.publish(destination, message.body, key=message.key))
                await asyncio.sleep(0.002)  # so that each could have a call of its own
        async with consuming(client, destination, sequences.handler(), group=world.group, order="key"):
            await sequences.all_done()

        sequences.verify()

    # ------------------------------------------------------------ brokers and members that go

    @requires(ordering="key")
    async def test_a_restart_keeps_each_key_in_order(self, world: World) -> None:
        """F: the broker goes in the middle, while handlers run; promises 4, 7."""
        destination, sequences = await world.destination(), Sequences(6, 20)
        client = await world.brief()
        await publish_all(client, destination, sequences.messages())

        async with consuming(client, destination, sequences.handler(), group=world.group, order="key"):
            await eventually(lambda: len(sequences.effects) > 20, "the first are handled")
            await world.restart()
            await sequences.all_done()

        sequences.verify()

    @requires(ordering="key")
    async def test_members_that_come_and_go_keep_each_key_in_order(self, world: World) -> None:
        """F: a second joins, the first leaves, a third takes over, each in the middle of it; promises 4, 7, 17."""
        destination, sequences = await world.destination(), Sequences(8, 24)
        publisher = await world.client()
        messages = sequences.messages()

        async def next_third() -> None:
            third, messages[:] = messages[:64], messages[64:]
            before = len(sequences.effects)
            await publish_all(publisher, destination, third)
            await eventually(lambda: len(sequences.effects) > before, "what came last is being handled")

        async with AsyncExitStack() as first, AsyncExitStack() as others:
            for stack in (first, others, others):
                member = consuming(
                    await world.client(), destination, sequences.handler(), group=world.group, order="key"
                )
                await stack.enter_async_context(member)
                await next_third()
                if stack is others:
                    await first.aclose()
            await sequences.all_done()

        sequences.verify()

    # ------------------------------------------------------------ consuming in batches

    @requires(ordering="key")
    async def test_a_batch_that_failed_in_part_comes_again_in_order(self, world: World) -> None:
        """F: of a list the two of one key fail, others are acked: the two come again before their next; promise 6."""
        client, destination = await world.client(), await world.destination()
        sequences = Sequences(2, 4)
        await publish_all(client, destination, sequences.messages())
        failing, tried = sequences.keys[0], Counter[int]()

        async def handle(batch: list[Delivery[Any]]) -> None:
            for delivery in batch:
                key, number = delivery.body["key"], delivery.body["number"]
                tried[number] += key == failing
                if key == failing and (delivery.attempt == 1 or _earlier_failed(batch, delivery)):
                    await delivery.fail(delay=world.tick)
                else:
                    sequences.effects.append((key, number))

        async with consuming(
            client, destination, handle, group=world.group, order="key", batch=4, batch_wait=world.tick
        ):
            await sequences.all_done()

        sequences.verify()
        assert min(tried.values()) >= 2

    # ------------------------------------------------------------ between messages

    async def test_what_a_handler_sets_in_its_context_the_next_never_sees(self, world: World) -> None:
        """F: one worker, one message after the other, retries included (see `Delivery`)."""
        client, destination = await world.client(), await world.destination()
        for number in range(4):
            await client.publish(destination, number, key="k")
        found: list[str] = []

        async def handle(delivery: Delivery[Any]) -> None:
            found.append(mark.get())
            mark.set(f"dirty {delivery.body}")
            await asyncio.sleep(0)
            found.append("kept" if mark.get() == f"dirty {delivery.body}" else "lost")
            mark.set("dirtier")
            if delivery.attempt == 1:
                raise unimsg.Fail("once more")

        async with consuming(
            client, destination, handle, group=world.group, concurrency=1, retry=quick(world)
        ):
            await eventually(lambda: len(found) >= 16, "four messages run twice")

        assert found[:16] == ["clean", "kept"] * 8
        assert mark.get() == "clean"

    # ------------------------------------------------------------ the negative control

    @requires(ordering="key")
    async def test_a_backend_that_reorders_is_found_out(self, world: World) -> None:
        """F: the check above is blind unless it fails here."""
        destination, sequences = await world.destination(), Sequences(5, 20)
        client = world.connect()
        client._session.backend = around(client.backend, Reordering())  # noqa: SLF001 - this goes between
        await publish_all(client, destination, sequences.messages())

        async with consuming(client, destination, sequences.handler(), group=world.group, order="key"):
            await sequences.all_done()

        with pytest.raises(AssertionError):
            sequences.verify()


async def send_limits(client: Client, destination: str) -> SendLimits:
    """Return what the sender of a destination keeps to."""
    sender = await client.backend.open_sender(destination)
    await sender.aclose()
    return sender.limits


def can_fail_in_part(limits: SendLimits) -> bool:
    """Whether one entry of a call can fail while others go through."""
    return not limits.atomic_lane


def _earlier_failed(batch: Sequence[Delivery[Any]], delivery: Delivery[Any]) -> bool:
    """Whether one of the same key that stands before it in the batch is tried for the first time."""
    before = batch[: batch.index(delivery)]
    return any(other.key == delivery.key and other.attempt == 1 for other in before)


async def _held_head(world: World, verdict: Callable[[], Exception]) -> None:
    client, destination, sequences = await world.client(), await world.destination(), Sequences(3, 6)
    await publish_all(client, destination, sequences.messages())
    head, *others = sequences.keys
    tries: defaultdict[str, int] = defaultdict(int)

    async def stumble(delivery: Delivery[Any]) -> None:
        if delivery.body == {"key": head, "number": 0}:
            tries[head] += 1
            if any(len(sequences.numbers(other)) < sequences.length for other in others):
                raise verdict()

    retry = unimsg.RetryPolicy(max_attempts=1000, initial=world.tick, jitter="none")
    async with consuming(
        client, destination, sequences.handler(stumble), group=world.group, order="key", retry=retry
    ):
        await sequences.all_done()

    sequences.verify()
    last_other = max(at for at, (key, _) in enumerate(sequences.effects) if key != head)
    first_head = sequences.effects.index((head, 0))
    assert tries[head] >= 2, "the head never failed, so nothing was proved"
    assert last_other < first_head, "others waited for the head"
