"""Move a live service from one transport to another without losing or repeating anything.

Law: 1. consume from both; 2. publish to the new one; 3. drain the old one; 4. take the old one away. The store is what
makes a message that went both ways one effect, so it does not move.
"""

from __future__ import annotations

import asyncio
import tempfile

import unimsg
from unimsg import Delivery, Router, idempotent


def billing(store_url: str) -> Router:
    """The service; several clients, several routers, one store."""
    router = Router()
    store = unimsg.store(store_url)

    @router.on("orders", group="billing")
    @idempotent(store, key=lambda delivery: delivery.body["id"])
    async def bill(delivery: Delivery[dict[str, str]]) -> None:
        print(f"order {delivery.body['id']} billed")

    return router


async def main(old_url: str, new_url: str, store_url: str) -> None:
    """Orders 1 to 3 are on the old transport, 3 to 5 on the new one: the producer switched in between."""
    async with unimsg.connect(old_url) as old, unimsg.connect(new_url) as new:
        for number in (1, 2, 3):
            await old.publish("orders", {"id": f"{number}"}, id=f"order-{number}")
        for number in (3, 4, 5):
            await new.publish("orders", {"id": f"{number}"}, id=f"order-{number}")
        await billing(store_url).run_until_idle(old)
        await billing(store_url).run_until_idle(new)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main("memory://", f"sqlite:///{folder}/new.db", f"sqlite:///{folder}/seen.db"))
