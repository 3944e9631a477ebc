"""publish_many: one result for each message, in order, through a bounded window."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.unit.publishing.support import Clock, FakeSender, by_key, publisher, turns
from unimsg.errors import (
    ConfigError,
    EncodeError,
    Error,
    MessageTooLargeError,
    NotSentError,
    OutcomeUnknownError,
    PublishManyError,
    RejectedError,
    UnavailableError,
)
from unimsg.message import Message, Receipt, WireMessage
from unimsg.publishing.publisher import WINDOW


def numbered(count: int, key: str | None = None) -> list[Message[bytes]]:
    """Messages whose body is their number."""
    return [Message(body=str(number).encode(), key=key) for number in range(count)]


async def test_receipts_come_in_the_order_of_the_messages() -> None:
    """Promise 2: one receipt for each, and the ids given are the ids sent."""
    sender = FakeSender()
    way = publisher(sender)
    messages = numbered(95)
    receipts = await way.publish_many(messages)
    assert [receipt.id for receipt in receipts] == [message.id for message in messages]
    assert [message.body for message in sender.stored] == [message.body for message in messages]
    assert max(map(len, sender.batches)) == 10
    await way.aclose()


async def test_nothing_to_publish_is_no_call() -> None:
    """An empty list is fine."""
    sender = FakeSender()
    way = publisher(sender)
    assert await way.publish_many([]) == []
    assert not sender.batches
    await way.aclose()


async def test_what_fails_stands_in_its_place_and_harms_no_other() -> None:
    """Catalogue C: partial failure fails only the failed entries and resends none of the others."""

    def odd(message: WireMessage, _time: int) -> Receipt | Error:
        return RejectedError("odd") if int(message.body or b"0") % 2 else Receipt(message.id)

    sender = FakeSender(answer=odd)
    way = publisher(sender)
    with pytest.raises(PublishManyError, match="10 of 20") as raised:
        await way.publish_many(numbered(20))
    results = raised.value.results
    assert [type(result) for result in results] == [Receipt, RejectedError] * 10
    assert len(sender.times) == 20
    assert set(sender.times.values()) == {1}
    await way.aclose()


async def test_what_is_wrong_before_the_wire_is_the_result_of_that_message() -> None:
    """Promise 19: the rest goes out."""

    def measure(message: WireMessage) -> int:
        if message.body == b"1":
            raise MessageTooLargeError("too large", size=2, limit=1)
        return 1

    way = publisher(FakeSender(measure=measure))
    await way.publish(b"open")
    messages = [*numbered(2), Message(body=b"x", headers={"unimsg-x": "y"}), Message(body=b"2")]
    with pytest.raises(PublishManyError) as raised:
        await way.publish_many(messages)
    kinds = [type(result) for result in raised.value.results]
    assert kinds == [Receipt, MessageTooLargeError, RejectedError, Receipt]
    assert str(raised.value.results[1]).startswith("fake 'orders'")
    await way.aclose()


async def test_a_body_that_does_not_fit_its_codec_is_the_result_of_that_message() -> None:
    """Promise 19: nothing half done by a bad body."""

    class Picky:
        content_type = None

        def encode(self, body: bytes) -> bytes:
            if body == b"0":
                raise EncodeError("no")
            return body

        def decode(self, raw: bytes | None) -> bytes:
            return raw or b""

    way = publisher(FakeSender(), codec=Picky())
    with pytest.raises(PublishManyError) as raised:
        await way.publish_many(numbered(2))
    assert [type(result) for result in raised.value.results] == [EncodeError, Receipt]
    await way.aclose()


async def test_a_bare_body_is_refused_with_the_way_to_write_it() -> None:
    """`publish_many` takes messages; what was taken before is answered."""
    way = publisher(FakeSender())
    with pytest.raises(ConfigError, match=r"Message\(body="):
        await way.publish_many([b"bare"])  # type: ignore[list-item]  # what is refused
    assert (way.stats.waiting, way.stats.in_flight) == (0, 0)
    await way.aclose()


async def test_a_long_generator_is_taken_as_it_can_be_sent() -> None:
    """Promise 18: backpressure; what is out never grows beyond the window."""
    sender = FakeSender(max_messages=50)
    sender.gate.clear()
    way = publisher(sender)
    taken = 0

    def endless() -> Iterator[Message[bytes]]:
        nonlocal taken
        for message in numbered(5 * WINDOW):
            taken += 1
            yield message

    call = asyncio.create_task(way.publish_many(endless()))
    await turns(20)
    assert taken == WINDOW
    assert way.stats.waiting + way.stats.in_flight == WINDOW
    sender.gate.set()
    assert len(await call) == 5 * WINDOW
    await way.aclose()


async def test_each_timeout_runs_from_when_the_message_was_taken() -> None:
    """Rule 1 of the contract: a long list is not one deadline."""
    clock = Clock()
    sender = FakeSender(max_messages=WINDOW, in_flight=1)
    sender.gate.clear()
    way = publisher(sender)
    call = asyncio.create_task(way.publish_many(numbered(3 * WINDOW), timeout=2))
    for _ in range(4):
        await clock.advance(1.5)
        sender.gate.set()
        await turns(1)
        sender.gate.clear()
        await turns(10)
    sender.gate.set()
    assert len(await call) == 3 * WINDOW
    await way.aclose()


async def test_a_key_that_was_not_confirmed_holds_its_rest_back() -> None:
    """Promise 4: published again in order, nothing of the key has overtaken it; other keys go on."""

    def answer(message: WireMessage, _time: int) -> Receipt | Error:
        return OutcomeUnknownError("lost") if message.body == b"a1" else Receipt(message.id)

    sender = FakeSender(answer=answer, lane=by_key, atomic_lane=False)
    way = publisher(sender)
    messages = [
        Message(body=body, key=body[:1].decode()) for body in (b"a0", b"b0", b"a1", b"a2", b"b1", b"a3")
    ]
    with pytest.raises(PublishManyError) as raised:
        await way.publish_many(messages)
    kinds = [type(result) for result in raised.value.results]
    assert kinds == [Receipt, Receipt, OutcomeUnknownError, NotSentError, Receipt, NotSentError]
    assert "key" in str(raised.value.results[3])
    assert {message.body for message in sender.stored} == {b"a0", b"b0", b"b1"}
    stats = way.stats
    assert (stats.accepted, stats.confirmed, stats.unknown, stats.not_published) == (6, 3, 1, 2)
    await way.aclose()


async def test_what_can_never_be_published_holds_nothing_back() -> None:
    """Promise 4: a message that is refused for good cannot come later, so nothing can overtake it."""
    sender = FakeSender(
        answer=lambda m, _: RejectedError("bad") if m.body == b"0" else Receipt(m.id),
        lane=by_key,
        atomic_lane=False,
    )
    way = publisher(sender)
    with pytest.raises(PublishManyError) as raised:
        await way.publish_many(numbered(3, key="a"))
    assert [type(result) for result in raised.value.results] == [RejectedError, Receipt, Receipt]
    await way.aclose()


async def test_where_no_order_is_kept_nothing_is_held_back() -> None:
    """Promise 4 speaks of backends that declare ordering."""
    way = publisher(
        FakeSender(answer=lambda m, _: OutcomeUnknownError("x") if m.body == b"0" else Receipt(m.id))
    )
    with pytest.raises(PublishManyError) as raised:
        await way.publish_many(numbered(3, key="a"))
    assert [type(result) for result in raised.value.results] == [OutcomeUnknownError, Receipt, Receipt]
    await way.aclose()


async def test_a_key_held_back_beyond_the_window_is_not_taken_up_again() -> None:
    """Promise 4: also what was not yet taken when its key failed."""
    sender = FakeSender(
        answer=lambda m, _: OutcomeUnknownError("x") if m.body == b"0" else Receipt(m.id),
        lane=by_key,
        max_messages=100,
    )
    way = publisher(sender)
    messages = [*numbered(1, key="a"), *numbered(WINDOW + 10, key="b")[1:], *numbered(2, key="a")[1:]]
    with pytest.raises(PublishManyError, match=f"2 of {len(messages)}") as raised:
        await way.publish_many(messages)
    assert isinstance(raised.value.results[-1], NotSentError)
    await way.aclose()


async def test_a_key_that_failed_in_a_batch_is_not_put_back_behind_it() -> None:
    """Promise 4: one batch can hold several of a key."""
    sender = FakeSender(
        answer=lambda m, _: OutcomeUnknownError("x") if m.body == b"0" else UnavailableError("x"), lane=by_key
    )
    way = publisher(sender)
    with pytest.raises(PublishManyError) as raised:
        await way.publish_many(numbered(3, key="a"))
    assert [type(result) for result in raised.value.results] == [
        OutcomeUnknownError,
        NotSentError,
        NotSentError,
    ]
    assert len(sender.batches) == 1
    await way.aclose()


async def test_a_cancelled_call_withdraws_what_was_not_handed_over() -> None:
    """Catalogue C: nothing of it is sent afterwards; what is out is unknown."""
    sender = FakeSender(in_flight=1)
    sender.gate.clear()
    way = publisher(sender)
    call = asyncio.create_task(way.publish_many(numbered(25)))
    await turns()
    call.cancel()
    await turns()
    assert call.cancelled()
    sender.gate.set()
    await turns()
    assert len(sender.stored) == 10
    stats = way.stats
    assert (stats.not_published, stats.unknown, stats.waiting, stats.in_flight) == (15, 10, 0, 0)
    await way.aclose()


async def test_a_generator_that_fails_leaves_nothing_behind() -> None:
    """Its error is raised; what was not handed over is withdrawn."""

    def bad() -> Iterator[Message[bytes]]:
        yield Message(body=b"1")
        raise KeyError("mine")

    way = publisher(FakeSender())
    with pytest.raises(KeyError):
        await way.publish_many(bad())
    assert way.stats.waiting == 0
    await way.aclose()


async def test_one_that_is_sent_again_holds_its_key_but_not_the_call() -> None:
    """Promise 4: the others do not wait for a throttled key."""
    clock = Clock()

    def answer(message: WireMessage, time: int) -> Receipt | Error:
        return UnavailableError("x") if message.key == "a" and time == 1 else Receipt(message.id)

    sender = FakeSender(answer=answer, lane=by_key, atomic_lane=False)
    way = publisher(sender)
    messages = [Message(body=body, key=body[:1].decode()) for body in (b"a0", b"b0", b"a1", b"b1")]
    call = asyncio.create_task(way.publish_many(messages))
    await turns(20)
    assert [message.body for message in sender.stored] == [b"b0", b"b1"]
    for _ in range(10):
        await clock.advance(0.5)
    await call
    assert [message.body for message in sender.stored] == [b"b0", b"b1", b"a0", b"a1"]
    await way.aclose()
