"""What takes its time: how often an idle consumer asks, and how soon a stop gives back what was prefetched.

Law: by the clock in hand, so each sleep takes no time, against a service in hand; the real thing in real time is in the
catalogue.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import unimsg
from tests.sqs.hand_service import Service
from unimsg.testing.clock import ManualClock
from unimsg.testing.conformance.world import consuming

SCHEMES = pytest.mark.parametrize("scheme", ["sqs", "sqs+fifo", "sns", "sns+fifo"])
MINUTES = 30


def group_of(scheme: str) -> str | None:
    """A topic has groups, a queue is one."""
    return "g" if scheme.startswith("sns") else None


@SCHEMES
async def test_an_idle_queue_costs_four_requests_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """With the default options, of every kind of call, once it is open; promise 18."""
    service = Service(monkeypatch)

    async def handle(_delivery: unimsg.Delivery[Any]) -> None: ...

    async with (
        ManualClock(auto=True),
        unimsg.connect(f"{scheme}://eu-west-1") as client,
        consuming(client, "orders", handle, group=group_of(scheme)),
    ):
        await asyncio.sleep(60)
        before = len(service.asked)
        await asyncio.sleep(60 * MINUTES)
        asked = service.asked[before:]

    assert 0 < len(asked) <= 4 * MINUTES
    assert {one.operation for one in asked} == {"ReceiveMessage"}


@SCHEMES
async def test_what_was_prefetched_is_visible_within_a_second_after_the_last_poll(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Not before it has ended, which would catch it again; and the next execution is the first; promises 10, 17."""
    service = Service(monkeypatch, range(12))
    go = asyncio.Event()

    async def hold(_delivery: unimsg.Delivery[Any]) -> None:
        await go.wait()

    async with ManualClock(auto=True) as clock, unimsg.connect(f"{scheme}://eu-west-1") as client:
        async with consuming(client, "orders", hold, group=group_of(scheme), concurrency=8) as subscriber:
            await asyncio.sleep(3)  # all are in hand, and a poll of twenty seconds for more is open
            stopped = clock.time()
            stopping = asyncio.create_task(subscriber.aclose())
            await asyncio.sleep(1)
            go.set()
            await stopping
        rest = dict(service.messages)
        hidden = {number: message.visible_at for number, message in rest.items()}
        last = max(one.ended for one in service.calls("ReceiveMessage"))
        again: dict[int, tuple[int, int]] = {}

        async def note(delivery: unimsg.Delivery[Any]) -> None:
            again[delivery.body] = (delivery.attempt, delivery.deliveries)

        await client.subscriber("orders", group=group_of(scheme)).run_until_idle(note)

    assert last > stopped, "no poll was open when it stopped: this shows nothing"
    assert len(rest) == 4
    assert all(last <= moment <= last + 1.0 for moment in hidden.values()), hidden
    assert again == dict.fromkeys(rest, (1, 2))
