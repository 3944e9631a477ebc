"""The sender: opened when it is needed, opened again when it is lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.unit.publishing.support import Clock, FakeSender, by_key, publisher, turns
from unimsg.errors import (
    BackendError,
    CapabilityError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    Error,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ThrottledError,
    UnavailableError,
)
from unimsg.message import Message, Receipt


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failed openings are warnings."""
    caplog.set_level(logging.CRITICAL, "unimsg.publishing")


async def test_nothing_is_opened_before_the_first_message() -> None:
    """Objects of the design: opened at first use."""
    opened: list[int] = []

    async def ensure_open() -> None:
        opened.append(1)

    way = publisher(FakeSender(), ensure_open=ensure_open)
    assert not opened
    await asyncio.gather(way.publish(b"1"), way.publish(b"2"))
    assert opened == [1]
    await way.aclose()


@pytest.mark.parametrize(
    "error", [NotFoundError("no such queue"), PermissionDeniedError("no"), CapabilityError("no")]
)
async def test_a_first_opening_that_can_never_work_is_told_to_each_caller(error: Error) -> None:
    """Catalogue A: a missing destination gives NotFound within a bound; each caller has an error of its own."""
    way = publisher(error, FakeSender())
    results = await asyncio.gather(way.publish(b"1"), way.publish(b"2"), return_exceptions=True)
    assert [type(result) for result in results] == [type(error)] * 2
    assert results[0] is not results[1]
    assert "fake 'orders'" in str(results[0])
    assert isinstance(await way.publish(b"3"), Receipt)
    await way.aclose()


async def test_a_first_opening_that_fails_for_now_is_tried_again() -> None:
    """Rule 7 of the contract: connection loss is never permanent."""
    clock = Clock()
    sender = FakeSender()
    way = publisher(ConnectError("down"), UnavailableError("down"), sender)
    call = asyncio.create_task(way.publish(b"1"))
    for _ in range(10):
        await clock.advance(0.1)
    assert isinstance(await call, Receipt)
    assert way.stats.reopened == 0
    await way.aclose()


async def test_a_service_that_stays_away_gives_not_sent_at_the_deadline() -> None:
    """Promise 2: it never left, and the caller hears why."""
    clock = Clock()
    way = publisher(ConnectError("nobody listens"))
    call = asyncio.create_task(way.publish(b"1", timeout=3))
    for _ in range(40):
        await clock.advance(0.1)
    with pytest.raises(NotSentError, match="nobody listens"):
        await call
    await way.aclose()


async def test_the_opening_rests_while_nobody_wants_it() -> None:
    """Catalogue L: a publisher that nobody uses does not knock for ever."""
    clock = Clock()
    knocks = 0

    async def knock() -> None:
        nonlocal knocks
        knocks += 1
        raise ConnectError("down")

    way = publisher(FakeSender(), ensure_open=knock)
    call = asyncio.create_task(way.publish(b"1", timeout=1))
    for _ in range(300):
        await clock.advance(0.1)
    assert isinstance(call.exception(), NotSentError)
    assert knocks < 10
    assert len(asyncio.all_tasks()) == 1
    await way.aclose()


async def test_a_service_that_asks_for_time_before_the_next_opening_gets_it() -> None:
    """Promise 11: `retry_after` is honoured here too."""
    clock = Clock()
    sender = FakeSender()
    way = publisher(ThrottledError("busy", retry_after=7.0), sender)
    call = asyncio.create_task(way.publish(b"1"))
    await clock.advance(6.9)
    assert not call.done()
    await clock.advance(0.2)
    assert isinstance(await call, Receipt)
    await way.aclose()


@pytest.mark.parametrize("lost", [ConnectionLostError("cut"), KeyError("whatever")])
async def test_a_lost_sender_is_replaced_and_what_waits_goes_on(lost: Exception) -> None:
    """Rule 7 of the contract: what was out is unknown, what waits is not; the order of the key stays."""
    clock = Clock()
    old, new = FakeSender(lane=by_key, in_flight=1, max_messages=1), FakeSender(lane=by_key)
    old.gate.clear()
    old.raises = [lost]
    way = publisher(old, ConnectError("down"), new)
    calls = [asyncio.create_task(way.publish(str(number).encode(), key="k")) for number in range(4)]
    await turns()
    old.gate.set()
    for _ in range(10):
        await clock.advance(0.1)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknownError, Receipt, Receipt, Receipt]
    assert [message.body for message in new.stored] == [b"1", b"2", b"3"]
    assert old.closed == 1
    assert way.stats.reopened == 1
    await way.aclose()


async def test_a_result_that_says_the_connection_is_gone_loses_the_sender_too() -> None:
    """Rule 7 of the contract: nothing was sent, so it is sent on the next one, with the same id."""
    clock = Clock()
    old, new = FakeSender(answer=lambda *_: ConnectError("gone")), FakeSender()
    way = publisher(old, new)
    call = asyncio.create_task(way.publish(b"1", id="mine"))
    for _ in range(10):
        await clock.advance(0.1)
    assert (await call).id == "mine"
    assert [message.id for message in new.stored] == ["mine"]
    assert old.closed == 1
    await way.aclose()


@pytest.mark.parametrize("error", [ThrottledError("x"), UnavailableError("x"), PermissionDeniedError("x")])
async def test_a_service_that_speaks_keeps_its_sender(error: BackendError) -> None:
    """As for a receiver: the connection is fine."""
    sender = FakeSender()
    sender.raises = [error]
    way = publisher(sender, FakeSender())
    with pytest.raises(OutcomeUnknownError):
        await way.publish(b"1")
    await way.publish(b"2")
    assert sender.closed == 0
    assert way.stats.reopened == 0
    await way.aclose()


async def test_a_raised_error_that_is_certain_by_its_class_is_believed() -> None:
    """Promise 2: `ConnectError` says that nothing was sent; it is sent again."""
    clock = Clock()
    old, new = FakeSender(), FakeSender()
    old.raises = [ConnectError("refused")]
    way = publisher(old, new)
    call = asyncio.create_task(way.publish(b"1"))
    for _ in range(10):
        await clock.advance(0.1)
    assert isinstance(await call, Receipt)
    await way.aclose()


async def test_later_nothing_is_permanent() -> None:
    """Rule 7 of the contract: permanent at the first open only; later the same errors are tried again."""
    clock = Clock()
    old, new = FakeSender(), FakeSender()
    old.raises = [None, ConnectionLostError("cut")]
    way = publisher(old, PermissionDeniedError("expired"), NotFoundError("gone"), new)
    await way.publish(b"1")
    with pytest.raises(OutcomeUnknownError):
        await way.publish(b"2")
    call = asyncio.create_task(way.publish(b"3"))
    for _ in range(20):
        await clock.advance(0.1)
    assert isinstance(await call, Receipt)
    await way.aclose()


async def test_a_client_that_is_closed_is_not_opened_again() -> None:
    """Catalogue A: use after close says so at once, also when the sender was lost before."""
    Clock()
    old = FakeSender()
    old.raises = [None, ConnectionLostError("cut")]
    closed = False

    async def ensure_open() -> None:
        if closed:
            raise ClosedError("the client is closed")

    way = publisher(old, FakeSender(), ensure_open=ensure_open)
    await way.publish(b"1")
    closed = True
    with pytest.raises(OutcomeUnknownError):
        await way.publish(b"2")
    with pytest.raises(ClosedError, match="client"):
        await way.publish(b"3")
    await way.aclose()


async def test_what_was_given_before_the_first_sender_is_checked_when_it_is_there() -> None:
    """Promise 19: limits are known only then; each message has its own end."""
    sender = FakeSender(measure=lambda message: 1 // (0 if message.body == b"bug" else 1))
    way = publisher(sender, have=None)
    good, bad = await asyncio.gather(
        way.publish(b"good"), publisher(FakeSender(measure=_too_large)).publish(b"x"), return_exceptions=True
    )
    assert isinstance(good, Receipt)
    assert isinstance(bad, NotSentError)
    await way.aclose()


def _too_large(message: Message[bytes | None]) -> int:
    raise NotSentError("too large")


async def test_the_limits_of_the_new_sender_hold() -> None:
    """Promise 19: a service that was reconfigured meanwhile."""
    clock = Clock()
    old, new = FakeSender(max_messages=10), FakeSender(max_messages=2)
    old.raises = [ConnectError("cut")]
    way = publisher(old, new)
    batch = [Message(body=b"x") for _ in range(6)]
    call = asyncio.create_task(way.publish_many(batch))
    for _ in range(10):
        await clock.advance(0.1)
    await call
    assert [len(batch) for batch in new.batches] == [2, 2, 2]
    await way.aclose()
