"""Order per key across everything that can go wrong, as properties over scripts of failures."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.publishing.support import Clock, FakeSender, by_key, publisher, turns
from unimsg.errors import (
    Error,
    NotSentError,
    OutcomeUnknownError,
    PublishManyError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from unimsg.message import Message, Receipt, WireMessage
from unimsg.publishing.publisher import Publisher

KEYS = ("a", "b", "c", None)
SHAPES = (
    {"lane": by_key, "atomic_lane": False},
    {"lane": by_key, "batch_is_lane": True},
    {"lane": by_key},
)
"""As a FIFO queue (one message of a group in a call), as a log (a call is of one partition), as a store."""

fate = st.sampled_from(["ok", "ok", "ok", "again", "again", "unknown", "rejected"])
plans = st.lists(st.tuples(st.sampled_from(KEYS), st.lists(fate, max_size=4)), min_size=1, max_size=40)


def weight(message: WireMessage) -> int:
    """From 1 to 5 of the 9 bytes of a batch."""
    return 1 + int(message.body or b"0") % 5


class Broker(FakeSender):
    """Each message has a list of fates, one for each time it is sent; a lane is all or nothing where that is told."""

    def __init__(self, plan: Sequence[tuple[str | None, list[str]]], shape: dict[str, Any]) -> None:
        super().__init__(max_messages=4, max_bytes=9, in_flight=3, measure=weight, **shape)
        self.plan = plan
        self.suspends = 0

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Suspend now and then, so that calls overlap; see the class."""
        self.suspends += 1
        for _ in range(self.suspends % 3):
            await asyncio.sleep(0)
        results = list(await super().send_batch(messages, deadline))
        if not self.limits.atomic_lane:
            return results
        failed: dict[str | None, Error] = {}
        for message, result in zip(messages, results, strict=True):
            if isinstance(result, Error) and message.key is not None:
                failed.setdefault(message.key, result)
        for index, message in enumerate(messages):
            if message.key in failed:
                if isinstance(results[index], Receipt):
                    self.stored.remove(message)
                results[index] = failed[message.key]
        return results

    def _answer(self, message: WireMessage) -> Receipt | Error:
        time = self.times[message.id] = self.times.get(message.id, 0) + 1
        fates = self.plan[int(message.body or b"0")][1]
        fate = fates[time - 1] if time <= len(fates) else "ok"
        if fate == "ok":
            self.stored.append(message)
            return Receipt(message.id)
        if fate == "again":
            return ThrottledError("later") if time % 2 else UnavailableError("later")
        return OutcomeUnknownError("gone") if fate == "unknown" else RejectedError("bad")


def messages_of(plan: Sequence[tuple[str | None, list[str]]]) -> list[Message[bytes]]:
    """One message for each line of the plan; its body is its number."""
    return [Message(body=str(number).encode(), key=key) for number, (key, _) in enumerate(plan)]


async def run(
    way: Publisher[bytes], clock: Clock, messages: list[Message[bytes]], *, many: bool
) -> list[object]:
    """Publish all, turning the clock until each has ended."""
    if many:
        call: asyncio.Future[Any] = asyncio.ensure_future(way.publish_many(messages))
    else:
        call = asyncio.gather(
            *(way.publish(message.body, key=message.key, id=message.id) for message in messages),
            return_exceptions=True,
        )
    for _ in range(400):
        if call.done():
            break
        await clock.advance(0.1)
    try:
        return list(await asyncio.wait_for(call, 1.0))
    except PublishManyError as error:
        return list(error.results)


def check(broker: Broker, messages: list[Message[bytes]], results: list[object]) -> None:
    """No inversion within a key, no loss, no duplicate, one result for each, no lane twice on the wire."""
    stored = [message.id for message in broker.stored]
    assert len(results) == len(messages)
    assert len(stored) == len(set(stored))
    confirmed = {
        message.id for message, result in zip(messages, results, strict=True) if isinstance(result, Receipt)
    }
    assert confirmed == set(stored)
    assert all(isinstance(result, (Receipt, Error)) for result in results)
    by: defaultdict[str, list[int]] = defaultdict(list)
    for message in broker.stored:
        if message.key is not None:
            by[message.key].append(int(message.body or b"0"))
    assert all(numbers == sorted(numbers) for numbers in by.values()), dict(by)
    assert broker.clashes == []


def check_limits(broker: Broker) -> None:
    """Every call keeps what the sender declared."""
    limits = broker.limits
    assert broker.most_calls <= limits.in_flight
    for batch in broker.batches:
        assert 1 <= len(batch) <= limits.max_messages
        assert sum(map(limits.measure, batch)) <= limits.max_bytes
        keys = [message.key for message in batch if message.key is not None]
        if limits.batch_is_lane:
            assert len({message.key for message in batch}) == 1
        if not limits.atomic_lane:
            assert len(keys) == len(set(keys))


@pytest.mark.parametrize("shape", SHAPES, ids=["fifo", "log", "store"])
@pytest.mark.parametrize("many", [False, True], ids=["publish", "publish_many"])
@settings(max_examples=60, deadline=None)
@given(plan=plans)
def test_order_per_key_holds_across_partial_failures(
    shape: dict[str, object], plan: list[tuple[str | None, list[str]]], *, many: bool
) -> None:
    """Promise 4, and promise 19 for count and bytes: whatever fails in part, in any shape of sender."""

    async def scene() -> None:
        clock = Clock()
        broker = Broker(plan, shape)
        way = publisher(broker)
        messages = messages_of(plan)
        results = await run(way, clock, messages, many=many)
        check(broker, messages, results)
        check_limits(broker)
        stats = way.stats
        assert stats.accepted == stats.confirmed + stats.not_published + stats.unknown
        assert stats.waiting == stats.in_flight == 0
        await way.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())


@settings(max_examples=60, deadline=None)
@given(plan=plans, shape=st.sampled_from(SHAPES))
def test_publishing_the_failed_again_in_order_keeps_the_order(
    plan: list[tuple[str | None, list[str]]], shape: dict[str, object]
) -> None:
    """Promise 4: what `publish_many` held back can be published again, and the key is still in order."""

    async def scene() -> None:
        clock = Clock()
        broker = Broker(plan, shape)
        way = publisher(broker)
        left = messages_of(plan)
        for _ in range(60):
            results = await run(way, clock, left, many=True)
            left = [
                message
                for message, result in zip(left, results, strict=True)
                if isinstance(result, Error) and result.retryable
            ]
            if not left:
                break
        assert not left
        firsts: defaultdict[str, list[int]] = defaultdict(list)
        for message in broker.stored:
            if message.key is not None:
                firsts[message.key].append(int(message.body or b"0"))
        assert all(numbers == sorted(numbers) for numbers in firsts.values())
        await way.aclose()

    asyncio.run(scene())


@settings(max_examples=60, deadline=None)
@given(
    plan=plans,
    shape=st.sampled_from(SHAPES),
    cancelled=st.sets(st.integers(0, 39), max_size=20),
    after=st.integers(0, 6),
)
def test_cancelled_callers_harm_nobody(
    plan: list[tuple[str | None, list[str]]], shape: dict[str, object], cancelled: set[int], after: int
) -> None:
    """Catalogue C: the others end as they would have, in order; what was cancelled is stored at most once."""

    async def scene() -> None:
        clock = Clock()
        broker = Broker([(key, [each for each in fates if each == "again"]) for key, fates in plan], shape)
        way = publisher(broker)
        messages = messages_of(plan)
        calls = [
            asyncio.create_task(way.publish(message.body, key=message.key, id=message.id))
            for message in messages
        ]
        await turns(after)
        for number in cancelled & set(range(len(calls))):
            calls[number].cancel()
        for _ in range(200):
            if all(call.done() for call in calls):
                break
            await clock.advance(0.1)
        gone = {number for number, call in enumerate(calls) if call.cancelled()}
        assert gone <= cancelled
        assert all(
            isinstance(call.result(), Receipt) for number, call in enumerate(calls) if number not in gone
        )
        await way.flush()
        stored = [message.id for message in broker.stored]
        assert len(stored) == len(set(stored))
        assert {message.id for number, message in enumerate(messages) if number not in gone} <= set(stored)
        for key in "abc":
            numbers = [int(message.body or b"0") for message in broker.stored if message.key == key]
            assert numbers == sorted(numbers)
        await way.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())


async def test_the_rest_of_a_key_waits_while_its_head_is_unanswered() -> None:
    """Promise 4: a caller's deadline does not let the next one overtake what may still arrive."""
    clock = Clock()
    sender = FakeSender(lane=by_key)
    sender.gate.clear()
    way = publisher(sender)
    head = asyncio.create_task(way.publish(b"head", key="k", timeout=1))
    await turns()
    rest = asyncio.create_task(way.publish(b"rest", key="k"))
    await clock.advance(1.5)
    with pytest.raises(OutcomeUnknownError):
        await head
    assert sender.sent == [[b"head"]]
    sender.gate.set()
    await rest
    assert [message.body for message in sender.stored] == [b"head", b"rest"]
    await way.aclose()


async def test_messages_given_while_the_sender_opens_keep_their_order() -> None:
    """Promise 4: the first ones too."""
    opened = asyncio.Event()
    sender = FakeSender(lane=by_key)
    way = publisher(sender, ensure_open=opened.wait)  # type: ignore[arg-type]  # True is not looked at
    calls = []
    for number in range(5):
        calls.append(asyncio.create_task(way.publish(str(number).encode(), key="k")))
        await turns(1)
    opened.set()
    await asyncio.gather(*calls)
    assert [message.body for message in sender.stored] == [b"0", b"1", b"2", b"3", b"4"]
    await way.aclose()


async def test_a_message_withdrawn_at_the_head_lets_the_rest_of_its_key_go() -> None:
    """Promise 4: the hold is the head's, not the key's."""
    clock = Clock()
    sender = FakeSender(
        lane=by_key, answer=lambda m, _t: UnavailableError("x") if m.body == b"head" else Receipt(m.id)
    )
    way = publisher(sender)
    head = asyncio.create_task(way.publish(b"head", key="k", timeout=0.5))
    await turns()
    rest = asyncio.create_task(way.publish(b"rest", key="k"))
    for _ in range(40):
        await clock.advance(0.1)
    with pytest.raises(NotSentError):
        await head
    await rest
    assert [message.body for message in sender.stored] == [b"rest"]
    await way.aclose()
