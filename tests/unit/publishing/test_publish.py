"""publish: one message, one of three ends."""

from __future__ import annotations

import asyncio

from tests.unit.publishing.support import FakeSender, publisher


async def test_publish_returns_the_receipt_of_its_own_message() -> None:
    """Promise 2: it returns after the confirmation."""
    sender = FakeSender()
    way = publisher(sender)
    receipt = await way.publish(b"one", key="k", headers={"a": "b"})
    (message,) = sender.stored
    assert receipt.id == message.id
    assert (message.body, message.key, message.headers) == (b"one", "k", {"a": "b"})
    assert message.timestamp is not None
    await way.aclose()


async def test_what_is_published_in_one_turn_shares_batches() -> None:
    """Batching rule: nothing in flight sends at once, and full batches leave in parallel."""
    sender = FakeSender()
    way = publisher(sender)
    receipts = await asyncio.gather(*(way.publish(str(number).encode()) for number in range(25)))
    assert [message.id for message in sender.stored] == [receipt.id for receipt in receipts]
    assert [len(batch) for batch in sender.batches] == [10, 10, 5]
    await way.aclose()
