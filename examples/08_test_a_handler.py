"""Unit tests of a handler: by hand with a delivery, and whole with `memory://`. Run it with pytest.

Law: the handler is tested as it is deployed; no broker, no patching, no waiting.
"""

from __future__ import annotations

import msgspec
import pytest

import unimsg
from unimsg import Delivery, RetryPolicy, Router
from unimsg.testing import delivery as make_delivery


class Order(msgspec.Struct):
    """One order."""

    id: int
    amount: float


router = Router()


@router.on(
    "orders",
    group="billing",
    codec=Order,
    retry=RetryPolicy(max_attempts=2, initial=0, max=0),
    dead_letter="dead",
)
async def bill(delivery: Delivery[Order]) -> None:
    """What is tested: refuses negative amounts, sends a receipt for others."""
    if delivery.body.amount < 0:
        raise unimsg.DeadLetter("a negative amount")
    await delivery.publish("receipts", {"order": delivery.body.id}, key=delivery.key)


async def test_a_negative_amount_is_refused() -> None:
    """The handler alone: a delivery without any broker."""
    with pytest.raises(unimsg.DeadLetter, match="negative"):
        await bill(make_delivery(Order(1, -5.0)))


async def test_an_order_ends_in_a_receipt() -> None:
    """The whole way: codec, router, retry policy, settlement."""
    async with unimsg.connect("memory://") as client:
        await client.publish("orders", Order(1, 5.0), key="ann")
        await client.publish("orders", Order(2, -5.0), key="ann")

        health = await router.run_until_idle(client)

        counters = health[0].counters
        assert (counters["acked"], counters["dead_lettered"]) == (1, 1)
        receipts: list[object] = []

        async def collect(delivery: Delivery[object]) -> None:
            receipts.append(delivery.body)

        await client.subscriber("receipts", group="test").run_until_idle(collect)
        assert receipts == [{"order": 1}]
