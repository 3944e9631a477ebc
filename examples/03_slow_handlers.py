"""Sixty-four workers for handlers that wait for somebody else, on a log, in order by key.

Law: nothing but settings; 640 calls of 20 ms take about ten times 20 ms.
"""

from __future__ import annotations

import asyncio
import os
import time

import unimsg
from unimsg import Delivery, Message

CALLS = 640


async def main(url: str) -> None:
    """Publish, handle, say how long it took."""
    busy = most = 0

    async def call(_delivery: Delivery[int]) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.02)
        busy -= 1

    async with unimsg.connect(url) as client:
        calls = [Message(body=number, key=f"user-{number % 128}") for number in range(CALLS)]
        await client.publisher("calls", codec=int).publish_many(calls)
        subscriber = client.subscriber("calls", group="callers", codec=int, concurrency=64, order="key")
        begin = time.monotonic()
        health = await subscriber.run_until_idle(call)
        seconds = time.monotonic() - begin
    print(f"{health.counters['acked']} calls, {most} at once, {seconds:.1f} s")


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("UNIMSG_URL", "memory://")))
