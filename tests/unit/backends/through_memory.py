"""A program: lets messages of one kilobyte through `memory://` and a slow handler, and tells how much memory it took.

Law: prints the resident memory when a fifth had gone through, and the most after that, in KiB.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import unimsg
from unimsg import Delivery, Message, codecs

BODY = b"x" * 1024
WORKERS = 100
AHEAD = 2000
"""Messages that the publisher may be ahead: a log is no place for what nobody has time for."""
SLOW = 0.002


def resident() -> int:
    """Return the resident memory of this process in KiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError


async def main(url: str, messages: int) -> None:
    """Publish and consume at once."""
    seen, early, most = 0, 0, 0
    moved, finished = asyncio.Event(), asyncio.Event()

    async def handle(_: Delivery[bytes | None]) -> None:
        nonlocal seen, early, most
        await asyncio.sleep(SLOW)
        seen += 1
        moved.set()
        if seen == messages // 5:
            early = resident()
        elif seen > messages // 5 and not seen % 1000:
            most = max(most, resident())
        if seen == messages:
            finished.set()

    def window(first: int) -> Iterator[Message[bytes | None]]:
        return (Message(body=BODY, key=str(n)) for n in range(first, min(first + 1000, messages)))

    async with unimsg.connect(url) as client:
        publisher = client.publisher("orders", codec=codecs.BYTES)
        subscriber = client.subscriber(
            "orders", group="g", codec=codecs.BYTES, concurrency=WORKERS, order="key"
        )
        running = asyncio.create_task(subscriber.run(handle))
        for first in range(0, messages, 1000):
            await publisher.publish_many(window(first))
            while first - seen > AHEAD:
                moved.clear()
                await moved.wait()
        await finished.wait()
        await subscriber.aclose()
        await running
    sys.stdout.write(f"{early} {most}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
