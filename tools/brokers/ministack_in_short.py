"""MiniStack in short: run by the Python of its own environment, as `python -P THIS`.

Law: changes two things, and no answer. An empty poll of SQS lasts a fifth of the seconds that were asked for, since a
test spends most of its time waiting for the end of its last poll; and it looks more often whether something came. A
FIFO queue looks only at the oldest ids to find those that it may forget: MiniStack looks at all of the last five
minutes for each message (21 ms for 30,000 of them), which was 85 % of what it did in a drill.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TypeAlias

Receive: TypeAlias = Callable[[dict[str, Any], str], Awaitable[dict[str, Any]]]
SHARE = 0.2
"""Of the seconds that a poll was asked to wait."""
LOOK_EVERY = 0.02
"""Seconds; MiniStack itself looks ten times a second."""


def in_short(receive: Receive) -> Receive:
    """Return `ReceiveMessage` with polls that last a share of their time."""

    async def receive_in_short(asked: dict[str, Any], queue: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        end = loop.time() + SHARE * int(asked.get("WaitTimeSeconds") or 0)
        while True:
            answer = await receive({**asked, "WaitTimeSeconds": 0}, queue)
            if answer or loop.time() >= end:
                return answer
            await asyncio.sleep(LOOK_EVERY)

    return receive_in_short


def forget(queue: dict[str, Any]) -> None:
    """Forget the ids whose five minutes are over; as all are kept equally long, the oldest stand first."""
    known, now = queue["dedup_cache"], time.time()
    while known and known[oldest := next(iter(known))]["expire"] <= now:
        del known[oldest]


def main() -> None:
    """Start it."""
    sqs: Any = import_module("ministack.services.sqs")  # it has no other door than what is private
    sqs._HANDLERS["ReceiveMessage"] = in_short(sqs._HANDLERS["ReceiveMessage"])  # noqa: SLF001 - as above
    sqs._prune_dedup = forget  # noqa: SLF001 - as above
    import_module("ministack.app").main()


if __name__ == "__main__":
    main()
