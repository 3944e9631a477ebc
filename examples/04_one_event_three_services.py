"""One event, three services: each is a group of its own and gets every message; members of one group share them.

Law: which broker carries it is the URL; `sns+fifo://…`, `kafka://…` and `amqp://…` will be others.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import unimsg
from unimsg import Delivery, Router

seen: Counter[str] = Counter()


def service(name: str) -> Router:
    """One service, as it would be deployed: its own group, its own process."""
    router = Router()

    @router.on("orders", group=name)
    async def handle(_delivery: Delivery[dict[str, object]]) -> None:
        seen[name] += 1

    return router


async def main(url: str) -> None:
    """Run three services, billing twice, and publish a hundred orders."""
    services = [service(name) for name in ("billing", "billing", "shipping", "mail")]
    async with unimsg.connect(url) as client:
        for number in range(100):
            await client.publish("orders", {"id": number}, key=f"customer-{number % 7}")
        await asyncio.gather(*(router.run_until_idle(client) for router in services))
    print(", ".join(f"{name} {count}" for name, count in sorted(seen.items())))


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("UNIMSG_URL", "memory://")))
