"""Redrive out of a Kafka topic: a log gives nothing back out of its middle, and no effect is had twice for it.

Law: what the catalogue lets a log do, as a fact: a group has one number for each partition.
"""

from __future__ import annotations

import asyncio
from typing import Any

import unimsg
from tests.kafka.conftest import MakeTopic
from unimsg.operations.redrive import Letter
from unimsg.testing.conformance.world import consuming, eventually


async def test_what_was_redriven_behind_a_letter_that_stays_goes_again_and_is_recognised(
    url: str, topic: MakeTopic, group: str
) -> None:
    """Promises 14, 25: with the same number, so that an idempotent handler acks it; and what stays is not lost."""
    name, dead, mended = await topic(partitions="1"), await topic(partitions="1"), asyncio.Event()
    effects: list[Any] = []

    @unimsg.idempotent(unimsg.store("memory://"))
    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        if not mended.is_set():
            raise unimsg.DeadLetter(delivery.body)
        effects.append(delivery.body)

    def late(letter: Letter) -> bool:
        return letter.info is not None and letter.info.reason == "late"

    async with unimsg.connect(url) as client:
        for body in ("early", "late"):
            await client.publish(name, body, key="k")
        async with consuming(client, name, handle, group=group, dead_letter=dead) as subscriber:

            async def settled(count: int) -> None:
                def ends() -> int:
                    counters = subscriber.health().counters
                    return counters["acked"] + counters["dead_lettered"]

                await eventually(lambda: ends() == count, f"{count} are settled")

            await settled(2)
            mended.set()
            once = await client.redrive(dead, group=group, filter=late)
            await settled(3)
            twice = await client.redrive(dead, group=group, filter=late)
            await settled(4)
            rest = await client.redrive(dead, group=group)
            await settled(6)
            none = await client.redrive(dead, group=group)

    assert [(report.redriven, report.left) for report in (once, twice, rest, none)] == [
        (1, 1),
        (1, 1),
        (2, 0),
        (0, 0),
    ]
    assert effects == ["late", "early"]
