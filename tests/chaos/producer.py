"""One producer process: publishes its share of the plan, each message until it is confirmed.

Law: settings come from the plan; what it did stands in its ledger, from which the next life goes on after a kill. A
message that was not confirmed is published again with the same id, and before all that follow it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import unimsg
from tests.chaos.ledger import Ended, Ledger, Sent, read
from tests.chaos.plan import Body, Parcel, Plan, name_of
from unimsg import Message, OutcomeUnknownError, PublishError, Receipt
from unimsg.errors import BackendError, PublishManyError

log = logging.getLogger("chaos.producer")

PAUSE = 0.2
"""Seconds before what failed is published again."""


async def main(plan: Plan, me: str) -> None:
    """Publish until all is confirmed."""
    path = plan.sends(name_of(me))
    confirmed = {line.id for line in read([path]) if isinstance(line, Ended) and line.how == "confirmed"}
    ledger = Ledger(path)
    todo = (parcel for parcel in plan.parcels(name_of(me)) if parcel.id not in confirmed)
    async with unimsg.connect(plan.way(name_of(me))) as client:
        publisher = client.publisher(plan.destination, codec=Body)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for parcels in windows(todo, plan.window):
            left = parcels
            while left:
                left = await attempt(publisher, ledger, left, me, plan.size)
                await asyncio.sleep(PAUSE if left else plan.pace)
    ledger.close()


def windows(todo: Iterator[Parcel], many: int) -> Iterator[list[Parcel]]:
    """Yield so many at a time."""
    while window := list(islice(todo, many)):
        yield window


async def attempt(
    publisher: unimsg.Publisher[Body], ledger: Ledger, parcels: Sequence[Parcel], me: str, size: int
) -> list[Parcel]:
    """Publish once; returns what was not confirmed, in order."""

    def messages() -> Iterator[Message[Body]]:
        for parcel in parcels:
            ledger.write(Sent(me, parcel.id, parcel.poison))
            yield Message(body=Body(parcel.number, parcel.poison, "x" * size), key=parcel.key, id=parcel.id)

    results: Sequence[object]
    try:
        results = await publisher.publish_many(messages(), timeout=20.0)
    except PublishManyError as error:
        results = list(error.results)
        log.warning("%s", error)
    except BackendError as error:  # nothing could be opened: nothing left
        log.warning("%s", error)
        results = [error] * len(parcels)
    for parcel, result in zip(parcels, results, strict=True):
        ledger.write(Ended(me, parcel.id, how(result)))
    return [
        parcel for parcel, result in zip(parcels, results, strict=True) if not isinstance(result, Receipt)
    ]


def how(result: object) -> Literal["confirmed", "not published", "unknown"]:
    """Name the end of a publish."""
    if isinstance(result, Receipt):
        return "confirmed"
    if isinstance(result, OutcomeUnknownError):
        return "unknown"
    assert isinstance(result, PublishError | BackendError), result
    return "not published"


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s %(message)s")
    asyncio.run(main(Plan.load(sys.argv[1]), sys.argv[2]))
