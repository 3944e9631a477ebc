"""Cancellation and closing: what is withdrawn, what is unknown, what is left behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.publishing.support import Clock, FakeSender, by_key, publisher, turns
from unimsg.errors import ClosedError, NotSentError, OutcomeUnknownError, PublishManyError, UnavailableError
from unimsg.message import Message, Receipt


async def test_a_call_cancelled_before_its_batch_is_cut_is_withdrawn() -> None:
    """Catalogue C: cancel before dispatch; it is never sent."""
    sender = FakeSender(in_flight=1, max_messages=1)
    sender.gate.clear()
    way = publisher(sender)
    first = asyncio.create_task(way.publish(b"first"))
    await turns()
    second = asyncio.create_task(way.publish(b"second"))
    await turns()
    second.cancel()
    await turns()
    sender.gate.set()
    await first
    await way.flush()
    assert sender.sent == [[b"first"]]
    assert way.stats.not_published == 1
    await way.aclose()


async def test_a_call_cancelled_after_dispatch_is_unknown_and_is_not_sent_again() -> None:
    """Catalogue C: cancel after dispatch; nobody waits for it, so a refusal ends it."""
    clock = Clock()
    sender = FakeSender(answer=lambda *_: UnavailableError("x"))
    sender.gate.clear()
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"x"))
    await turns()
    call.cancel()
    await turns()
    sender.gate.set()
    await clock.advance(5.0)
    assert len(sender.batches) == 1
    assert (way.stats.unknown, way.stats.resent) == (1, 0)
    await way.aclose()


async def test_a_call_cancelled_while_the_sender_opens_is_withdrawn() -> None:
    """Catalogue C: nothing of it is sent when the sender is there."""
    opened = asyncio.Event()
    sender = FakeSender()
    way = publisher(sender, ensure_open=opened.wait)  # type: ignore[arg-type]  # True is not looked at
    gone = asyncio.create_task(way.publish(b"gone"))
    stays = asyncio.create_task(way.publish(b"stays"))
    await turns()
    gone.cancel()
    await turns()
    opened.set()
    await stays
    assert sender.sent == [[b"stays"]]
    await way.aclose()


async def test_a_call_cancelled_while_it_waits_to_be_sent_again_is_withdrawn() -> None:
    """Catalogue C: its key goes on without it."""
    clock = Clock()
    sender = FakeSender(
        lane=by_key, answer=lambda m, _: UnavailableError("x") if m.body == b"gone" else Receipt(m.id)
    )
    way = publisher(sender)
    gone = asyncio.create_task(way.publish(b"gone", key="k"))
    await turns()
    stays = asyncio.create_task(way.publish(b"stays", key="k"))
    await turns()
    gone.cancel()
    await clock.advance(1.0)
    assert isinstance(await stays, Receipt)
    assert sender.sent == [[b"gone"], [b"stays"]]
    await way.aclose()


async def test_withdrawn_calls_leave_nothing_in_memory() -> None:
    """Promise 18: a hanging service and impatient callers do not grow the publisher."""
    clock = Clock()
    sender = FakeSender(in_flight=1, lane=by_key)
    sender.gate.clear()
    way = publisher(sender)
    head = asyncio.create_task(way.publish(b"head", timeout=1000))
    await turns()
    for turn in range(20):
        calls = [
            asyncio.create_task(way.publish(b"x", key=f"{turn}-{number}" if number % 2 else None, timeout=1))
            for number in range(50)
        ]
        await turns()
        for call in calls[::3]:
            call.cancel()
        await clock.advance(1.0)
        assert all(call.done() for call in calls)
        for call in calls:
            if not call.cancelled():
                assert isinstance(call.exception(), NotSentError)
    batcher = way._batcher
    assert batcher is not None
    lanes = batcher.ledger.lanes
    assert lanes is not None
    assert (lanes.waiting, lanes.messages, lanes.size) == (0, 0, 0)
    assert lanes.is_empty
    assert not lanes._ready
    sender.gate.set()
    await head
    await way.aclose()


async def test_closing_sends_what_waits() -> None:
    """Promise 17 and catalogue C: close flushes."""
    sender = FakeSender(in_flight=1)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"x")) for _ in range(25)]
    await turns()
    closing = asyncio.create_task(way.aclose())
    await turns()
    with pytest.raises(ClosedError):
        await way.publish(b"late")
    sender.gate.set()
    await closing
    assert all(isinstance(call.result(), Receipt) for call in calls)
    assert sender.closed == 1
    assert len(asyncio.all_tasks()) == 1


async def test_closing_answers_whoever_waits_when_its_time_is_over() -> None:
    """Catalogue A: close while blocked in publish, bounded with a hanging broker; three ends, each its own."""
    clock = Clock()
    sender = FakeSender(in_flight=1)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"x", timeout=1000)) for _ in range(12)]
    await turns()
    closing = asyncio.create_task(way.aclose(timeout=5))
    await clock.advance(4.5)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknownError] * 10 + [NotSentError] * 2
    assert all("closed" in str(result) for result in results)
    await clock.advance(0.5)
    await closing
    assert len(asyncio.all_tasks()) == 1


async def test_closing_is_bounded_when_the_sender_ignores_everything() -> None:
    """Catalogue A: a sender that swallows cancellation and never closes."""

    class Deaf(FakeSender):
        def __init__(self) -> None:
            super().__init__()
            self.let_go = asyncio.Event()

        async def send_batch(self, messages: object, deadline: float, /) -> list[Receipt]:
            while not self.let_go.is_set():
                try:
                    await self.let_go.wait()
                except asyncio.CancelledError:
                    continue
            return []

        async def aclose(self) -> None:
            await self.let_go.wait()

    clock = Clock()
    sender = Deaf()
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"x", timeout=1000))
    await turns()
    closing = asyncio.create_task(way.aclose(timeout=5))
    for _ in range(12):
        await clock.advance(0.5)
    assert closing.done()
    assert isinstance(call.exception(), OutcomeUnknownError)
    sender.let_go.set()
    await turns()
    assert len(asyncio.all_tasks()) == 1


async def test_closing_twice_and_at_once_is_closing_once() -> None:
    """Catalogue A: double close."""
    sender = FakeSender()
    way = publisher(sender)
    await way.publish(b"x")
    await asyncio.gather(way.aclose(), way.aclose())
    await way.aclose()
    assert sender.closed == 1


async def test_closing_one_that_was_never_used_opens_nothing() -> None:
    """Catalogue A: and it is closed afterwards."""

    async def never() -> None:
        raise AssertionError("opened")

    way = publisher(FakeSender(), ensure_open=never)
    await way.aclose()
    with pytest.raises(ClosedError):
        await way.publish(b"x")


async def test_closing_while_the_sender_opens_ends_the_opening() -> None:
    """Catalogue A: 10 concurrent open and close."""
    clock = Clock()
    way = publisher(FakeSender(), ensure_open=asyncio.Event().wait)  # type: ignore[arg-type]  # as above
    call = asyncio.create_task(way.publish(b"x"))
    await turns()
    closing = asyncio.create_task(way.aclose(timeout=1))
    await clock.advance(0.9)
    await clock.advance(0.2)
    await closing
    assert isinstance(call.exception(), NotSentError)
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancelled_close_goes_on() -> None:
    """Who cancels the closing does not leave the sender open."""
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"x"))
    await turns()
    closing = asyncio.create_task(way.aclose())
    await turns()
    closing.cancel()
    await turns()
    assert closing.cancelled()
    sender.gate.set()
    await call
    await way.aclose()
    assert sender.closed == 1
    assert len(asyncio.all_tasks()) == 1


async def test_a_sender_that_fails_to_close_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Catalogue A: everything was confirmed, so closing succeeds."""

    class Stubborn(FakeSender):
        async def aclose(self) -> None:
            raise KeyError("stuck")

    way = publisher(Stubborn())
    await way.publish(b"x")
    await way.aclose()
    assert "stuck" in caplog.text


async def test_publish_many_that_is_open_when_the_publisher_closes_is_answered() -> None:
    """Catalogue A: one result for each message that was taken."""
    clock = Clock()
    sender = FakeSender(in_flight=1)
    sender.gate.clear()
    way = publisher(sender)
    batch = [Message(body=b"x") for _ in range(30)]
    call = asyncio.create_task(way.publish_many(batch))
    await turns()
    closing = asyncio.create_task(way.aclose(timeout=1))
    await clock.advance(0.9)
    await clock.advance(0.2)
    await closing
    with pytest.raises(PublishManyError) as raised:
        await call
    results = raised.value.results
    assert [type(result) for result in results] == [OutcomeUnknownError] * 10 + [NotSentError] * 20
