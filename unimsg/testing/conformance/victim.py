"""A consumer that is made to be killed; as arguments: URL, destination, group (or nothing), concurrency.

Law: a process of its own. It prints the body of each message that it was given, and never comes to an end with any.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import unimsg


async def main(url: str, destination: str, group: str, concurrency: str) -> None:
    """Take messages and keep them."""

    async def hold(delivery: unimsg.Delivery[Any]) -> None:
        print(delivery.body, flush=True)  # noqa: T201 - this is how it tells
        await asyncio.Event().wait()

    async with unimsg.connect(url) as client:
        subscriber = client.subscriber(
            destination, group=group or None, concurrency=int(concurrency), order="none"
        )
        await subscriber.run(hold)  # without order, so that it holds as many as it has hands


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
