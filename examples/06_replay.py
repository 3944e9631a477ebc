"""Replay from yesterday: a new group reads what the others have long handled, from a moment on.

Law: needs a log that can be read by time; a backend without one refuses before anything is received.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta

import unimsg
from unimsg import Delivery


async def main(url: str) -> None:
    """Handle three orders, then give a new report those since yesterday, and then the last one again."""
    async with unimsg.connect(url) as client:
        receipts = [await client.publish("orders", {"id": number}) for number in (1, 2, 3)]

        async def handle(delivery: Delivery[dict[str, int]]) -> None:
            print(f"{delivery.group}: order {delivery.body['id']}")

        await client.subscriber("orders", group="billing").run_until_idle(handle)

        yesterday = datetime.now(UTC) - timedelta(days=1)
        report = client.subscriber("orders", group="report", start=yesterday)
        await report.run_until_idle(handle)

        position = receipts[-1].position
        if position is not None:
            await client.subscriber("orders", group="billing").seek(position)
            await client.subscriber("orders", group="billing").run_until_idle(handle)


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("UNIMSG_URL", "memory://")))
