"""A worker in a process of its own, for tests that kill it: `python worker.py <messages> <rows> <effects> <moment>`.

Law: effects are lines of a file that is only appended to, beside every store, so that a second one would show.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import unimsg
from unimsg.consuming.guard import Claim

LOCK = 0.5


def die() -> None:
    """End here, without a chance to say anything."""
    os.kill(os.getpid(), signal.SIGKILL)


def handler(store: unimsg.stores.Store, effects: Path, moment: str) -> Any:
    """The job, which dies at a moment."""

    @unimsg.idempotent(store, scope="job", lock=LOCK)
    async def job(delivery: unimsg.Delivery[Any]) -> None:
        if moment == "before the effect":
            die()
        with effects.open("a", encoding="utf-8") as file:
            file.write(f"{delivery.id} {delivery.attempt} {delivery.fencing_token}\n")
        if moment == "after the effect":
            die()

    decorated: Any = job
    make = decorated.guard

    async def guard(**where: Any) -> Any:
        made = await make(**where)
        complete = made.complete

        async def completed(claims: Sequence[Claim], /) -> Sequence[bool]:
            results: Sequence[bool] = await complete(claims)
            if moment == "after the note":
                die()
            return results

        made.complete = completed
        return made

    decorated.guard = guard
    return job


async def main(messages: str, rows: str, effects: str, moment: str) -> None:
    """Consume until nothing is left, or until death."""
    store = unimsg.store(rows)
    async with unimsg.connect(messages) as client:
        subscriber = client.subscriber("orders", group="billing", concurrency=4)
        await subscriber.run_until_idle(handler(store, Path(effects), moment))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
