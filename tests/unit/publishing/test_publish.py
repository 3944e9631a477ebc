"""publish: one message, one of three ends."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from tests.unit.publishing.support import Clock, FakeSender, by_key, publisher, turns
from unimsg.errors import (
    ClosedError,
    ConnectError,
    Error,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PublishError,
    RejectedError,
    ThrottledError,
    TimedOutError,
    UnavailableError,
    UnroutableError,
)
from unimsg.message import Message, Position, Receipt, WireMessage


async def test_publish_returns_the_receipt_of_its_own_message() -> None:
    """Promise 2: it returns after the confirmation."""
    sender = FakeSender(answer=lambda message, _time: Receipt(message.id, Position("p", 7), duplicate=True))
    way = publisher(sender)
    receipt = await way.publish(b"one", key="k", headers={"a": "b"}, content_type="text/x")
    (message,) = sender.stored
    assert receipt == Receipt(message.id, Position("p", 7), duplicate=True)
    assert (message.body, message.key, message.headers) == (b"one", "k", {"a": "b"})
    assert message.content_type == "text/x"
    assert message.timestamp is not None
    await way.aclose()


async def test_publish_waits_for_the_confirmation() -> None:
    """Promise 2: not before the service has answered."""
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"one"))
    await turns()
    assert sender.batches
    assert not call.done()
    sender.gate.set()
    await call
    await way.aclose()


async def test_the_id_given_is_kept_on_every_resend() -> None:
    """Promise 3: the id is set once."""
    clock = Clock()

    def twice_refused(message: WireMessage, time: int) -> Receipt | Error:
        return ThrottledError("slow down") if time < 3 else Receipt(message.id)

    sender = FakeSender(answer=twice_refused)
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"one", id="mine"))
    for _ in range(4):
        await clock.advance(1.0)
    assert (await call).id == "mine"
    assert [message.id for batch in sender.batches for message in batch] == ["mine"] * 3
    assert way.stats.resent == 2
    await way.aclose()


async def test_an_id_is_made_once_for_a_message_without_one() -> None:
    """Promise 3: and what is generated is kept as well."""
    clock = Clock()
    sender = FakeSender(answer=lambda m, time: UnavailableError("no") if time == 1 else Receipt(m.id))
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"one"))
    await clock.advance(1.0)
    await call
    first, second = (batch[0].id for batch in sender.batches)
    assert first
    assert first == second
    await way.aclose()


@pytest.mark.parametrize(
    "error", [ThrottledError("x"), UnavailableError("x"), NotSentError("x"), ConnectError("x")]
)
async def test_what_is_refused_for_now_is_sent_again_until_the_deadline(error: Error) -> None:
    """Promise 2 and catalogue C: throttling is retried, then it is certain that it is not published."""
    clock = Clock()
    sender = FakeSender(answer=lambda *_: error)
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"one", timeout=3))
    for _ in range(40):
        await clock.advance(0.1)
    with pytest.raises(NotSentError, match="x") as raised:
        await call
    assert raised.value.__cause__ is error
    assert raised.value.retryable
    assert len(sender.batches) > 3
    assert (way.stats.not_published, way.stats.unknown) == (1, 0)
    await way.aclose()


async def test_a_resend_waits_longer_each_time() -> None:
    """Catalogue C: backoff, never a tight loop."""
    clock = Clock()
    times: list[float] = []

    def note(_message: WireMessage, _time: int) -> Error:
        times.append(clock.now)
        return UnavailableError("x")

    way = publisher(FakeSender(answer=note))
    call = asyncio.create_task(way.publish(b"one", timeout=10))
    for _ in range(1200):
        await clock.advance(0.01)
    with pytest.raises(NotSentError):
        await call
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 5 <= len(waits) <= 10
    assert waits[-1] > 8 * waits[0]
    await way.aclose()


async def test_retry_after_is_honoured() -> None:
    """Promise 11: what the service asks for is the least that is waited."""
    clock = Clock()
    sender = FakeSender(
        answer=lambda m, time: Receipt(m.id) if time > 1 else ThrottledError("x", retry_after=7.0)
    )
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"one"))
    await clock.advance(6.9)
    assert len(sender.batches) == 1
    await clock.advance(0.2)
    assert (await call).id == sender.stored[0].id
    await way.aclose()


async def test_a_retry_after_beyond_the_deadline_ends_at_once() -> None:
    """Promise 2: nothing is gained by waiting for what comes too late; the caller learns when to come back."""
    way = publisher(FakeSender(answer=lambda *_: ThrottledError("x", retry_after=60.0)))
    with pytest.raises(NotSentError) as raised:
        await way.publish(b"one", timeout=30)
    assert raised.value.retry_after == 60.0
    await way.aclose()


async def test_a_service_that_throttles_everything_gets_nothing_meanwhile() -> None:
    """Promise 11: a request for fewer requests is not answered with other requests."""
    clock = Clock()
    sender = FakeSender(
        answer=lambda m, time: Receipt(m.id) if time > 1 else ThrottledError("x", retry_after=5.0)
    )
    way = publisher(sender)
    first = asyncio.create_task(way.publish(b"one"))
    await turns()
    sender.answer = lambda m, _time: Receipt(m.id)
    second = asyncio.create_task(way.publish(b"two"))
    await clock.advance(4.9)
    assert sender.sent == [[b"one"]]
    await clock.advance(0.2)
    await asyncio.gather(first, second)
    await way.aclose()


async def test_a_throttled_lane_leaves_the_others_alone() -> None:
    """Catalogue C: a partial throttle (one shard) holds its own lane."""
    clock = Clock()

    def hot(message: WireMessage, time: int) -> Receipt | Error:
        return (
            ThrottledError("x", retry_after=5.0)
            if message.key == "hot" and time == 1
            else Receipt(message.id)
        )

    sender = FakeSender(answer=hot, lane=by_key)
    way = publisher(sender)
    held = asyncio.create_task(way.publish(b"held", key="hot"))
    await way.publish(b"other", key="cold")
    await way.publish(b"another", key="cold")
    assert not held.done()
    await clock.advance(5.1)
    await held
    await way.aclose()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (RejectedError("bad"), RejectedError),
        (UnroutableError("nowhere"), UnroutableError),
        (PermissionDeniedError("no"), RejectedError),
    ],
)
async def test_what_is_refused_for_good_is_sent_once(answer: Error, kind: type[Error]) -> None:
    """Promise 2 and catalogue C: unroutable fails; it is certainly not published."""
    sender = FakeSender(answer=lambda *_: answer)
    way = publisher(sender)
    with pytest.raises(kind, match=answer.sentence) as raised:
        await way.publish(b"one")
    assert isinstance(raised.value, PublishError)
    assert (raised.value.backend, raised.value.destination) == ("fake", "orders")
    assert len(sender.batches) == 1
    await way.aclose()


@pytest.mark.parametrize("error", [OutcomeUnknownError("x"), TimedOutError("x")])
async def test_an_unknown_outcome_is_never_sent_again_nor_called_failed(error: Error) -> None:
    """Promise 2: unknown is its own end; the caller publishes again with the same id."""
    sender = FakeSender(answer=lambda *_: error)
    way = publisher(sender)
    with pytest.raises(OutcomeUnknownError) as raised:
        await way.publish(b"one")
    assert not isinstance(raised.value, PublishError)
    assert len(sender.batches) == 1
    assert way.stats.unknown == 1
    await way.aclose()


async def test_what_send_batch_raises_is_unknown_for_all() -> None:
    """Promise 2 and rule 1 of the contract: the foreign error is the cause."""
    foreign = KeyError("boom")
    sender = FakeSender()
    sender.raises = [foreign]
    way = publisher(sender)
    results = await asyncio.gather(*(way.publish(b"x") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, OutcomeUnknownError) for result in results)
    assert len({id(result) for result in results}) == 3
    assert "KeyError" in str(results[0])
    await way.aclose()


async def test_the_backend_translates_what_its_library_raises() -> None:
    """Promise 2: our word for it, theirs as the cause."""
    sender = FakeSender()
    sender.raises = [KeyError("boom")]
    way = publisher(sender, translate=lambda _error: TimedOutError("no answer in 3 s"))
    with pytest.raises(OutcomeUnknownError, match="no answer in 3 s") as raised:
        await way.publish(b"x")
    assert isinstance(raised.value.__cause__, TimedOutError)
    assert isinstance(raised.value.__cause__.__cause__, KeyError)
    await way.aclose()


async def test_a_wrong_number_of_results_is_unknown_for_all() -> None:
    """Promise 2: a backend that breaks the contract is told so, and nobody gets another's receipt."""

    class Short(FakeSender):
        async def send_batch(self, messages: object, deadline: float, /) -> list[Receipt | Error]:
            return [Receipt("other")]

    way = publisher(Short())
    results = await asyncio.gather(way.publish(b"1"), way.publish(b"2"), return_exceptions=True)
    assert all(isinstance(result, OutcomeUnknownError) and "contract" in str(result) for result in results)
    await way.aclose()


async def test_what_was_not_handed_over_by_its_deadline_is_not_sent() -> None:
    """Promise 2: still queued = not sent; handed over = unknown."""
    clock = Clock()
    sender = FakeSender(max_messages=1, in_flight=1)
    sender.gate.clear()
    way = publisher(sender)
    out = asyncio.create_task(way.publish(b"out", timeout=2))
    queued = asyncio.create_task(way.publish(b"queued", timeout=timedelta(seconds=1)))
    await clock.advance(1.0)
    with pytest.raises(NotSentError, match="timeout"):
        await queued
    assert not out.done()
    await clock.advance(1.0)
    with pytest.raises(OutcomeUnknownError, match="timeout"):
        await out
    sender.gate.set()
    await turns()
    assert [message.body for message in sender.stored] == [b"out"]
    assert (way.stats.not_published, way.stats.unknown, way.stats.confirmed) == (1, 1, 0)
    await way.aclose()


async def test_the_sender_is_told_the_latest_deadline_of_its_batch() -> None:
    """Rule 1 of the contract."""
    clock = Clock()
    sender = FakeSender()
    way = publisher(sender)
    await asyncio.gather(*(way.publish(b"x", timeout=seconds) for seconds in (3, 9, 6)))
    assert sender.deadlines == [clock.now + 9]
    await way.aclose()


async def test_a_sender_that_never_answers_is_given_up_and_replaced() -> None:
    """Promise 2 and catalogue A: a hanging broker does not stop the publisher for good."""
    clock = Clock()
    hanging, fresh = FakeSender(in_flight=1), FakeSender()
    hanging.gate.clear()
    way = publisher(hanging, fresh)
    lost = asyncio.create_task(way.publish(b"lost", timeout=1))
    await clock.advance(1.0)
    with pytest.raises(OutcomeUnknownError):
        await lost
    waits = asyncio.create_task(way.publish(b"waits", timeout=20))
    await clock.advance(5.0)
    await waits
    assert [message.body for message in fresh.stored] == [b"waits"]
    assert hanging.closed == 1
    assert way.stats.reopened == 1
    await way.aclose()


async def test_many_deadlines_share_one_timer() -> None:
    """Performance: no timer per message."""
    clock = Clock()
    sender = FakeSender(in_flight=1, max_messages=1)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"x", timeout=5 + number / 100)) for number in range(100)]
    await turns()
    loop = asyncio.get_running_loop()
    scheduled = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]  # private
    assert len(scheduled) <= 2
    await clock.advance(7.0)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknownError] + [NotSentError] * 99
    await way.aclose()


async def test_publish_wire_keeps_everything_as_it_is() -> None:
    """Promise 14: a dead letter keeps body, headers and id; reserved headers are allowed here, and no id as well."""
    sender = FakeSender()
    way = publisher(sender)
    message: WireMessage = Message(
        body=None, key="k", headers={"unimsg-dead-letter": "{}"}, id=None, timestamp=3.0
    )
    receipt = await way.publish_wire(message)
    assert sender.stored == [message]
    assert receipt.id is None
    await way.aclose()


async def test_what_the_caller_changes_afterwards_does_not_travel() -> None:
    """Promise 3: a message is what it was when it was published."""
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    headers = {"a": "1"}
    await_first = asyncio.create_task(way.publish(b"x", headers=headers))
    await turns()
    headers["a"] = "2"
    sender.gate.set()
    await await_first
    assert sender.stored[0].headers == {"a": "1"}
    await way.aclose()


async def test_the_publisher_of_another_event_loop_is_refused() -> None:
    """One event loop per client: said, not hung."""
    way = publisher(FakeSender())
    await way.publish(b"x")

    def elsewhere() -> None:
        asyncio.run(way.publish(b"y"))

    with pytest.raises(Error, match="another event loop"):
        await asyncio.to_thread(elsewhere)
    await way.aclose()


async def test_a_closed_publisher_says_so() -> None:
    """Catalogue A: use after close."""
    way = publisher(FakeSender())
    await way.publish(b"x")
    await way.aclose()
    with pytest.raises(ClosedError):
        await way.publish(b"y")
    with pytest.raises(ClosedError):
        await way.publish_many([Message(body=b"y")])
