"""A worker that keeps the order of each customer, retries what fails, and puts aside what cannot work.

Law: order by key, so a customer waits while one of its orders is retried, and nobody else does.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

import unimsg
from unimsg import Delivery, RetryPolicy


class Order(msgspec.Struct):
    """One order."""

    id: int
    customer: str
    amount: float


router = unimsg.Router()
retry = RetryPolicy(max_attempts=3, initial=0.05, max=1)


@router.on("orders", group="billing", codec=Order, order="key", retry=retry, dead_letter="orders-dead")
async def bill(delivery: Delivery[Order]) -> None:
    """Bill an order; the payment service is slow to wake up, and negative amounts are never right."""
    order = delivery.body
    if order.amount < 0:
        raise unimsg.DeadLetter("a negative amount")
    if order.id == 1 and delivery.attempt == 1:
        raise ConnectionError("payment service is waking up")
    print(f"{order.customer}: order {order.id} billed at attempt {delivery.attempt}")


async def main(url: str) -> None:
    """Publish five orders of two customers, bill them, and look at what was put aside."""
    async with unimsg.connect(url) as client:
        for number, amount in enumerate((10.0, 20.0, -30.0, 40.0, 50.0), 1):
            order = Order(number, "ann" if number % 2 else "bob", amount)
            await client.publish("orders", order, key=order.customer)
        await router.run_until_idle(client)

        async def look(delivery: Delivery[Order]) -> None:
            print(f"{delivery.body.customer}: order {delivery.body.id} put aside")

        await client.subscriber("orders-dead", group="look", codec=Order).run_until_idle(look)


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("UNIMSG_URL", "memory://")))
