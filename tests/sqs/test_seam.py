"""The seam of SQS, where its mutants live: whose message an ack ends, how long a lease lasts, what a stop leaves open.

Law: each test passes on what is not broken and fails an assertion on the mutant that `test_mutants` makes of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

import unimsg
from tests.sqs.aws_faults import FaultProxy, Rule, kinds
from tests.sqs.test_faults import LATER, NoEvents, messages
from unimsg.backends.sqs.receiver import SqsReceiver
from unimsg.client import Client
from unimsg.spi import Received, Settlement
from unimsg.testing.conformance.world import eventually


async def taken(client: Client, queue: str, count: int) -> tuple[SqsReceiver, list[Received]]:
    """Publish some, and take them into hand."""
    sender = await client.backend.open_sender(queue)
    await sender.send_batch(messages(count), LATER)
    receiver: Any = await client.backend.open_receiver(queue, None, "oldest", NoEvents(), 10)
    batch: list[Received] = []
    while len(batch) < count:
        batch += await receiver.receive_batch(10, 1.0)
    return receiver, batch


async def test_an_ack_ends_its_own_message_only(url: str, queue: str) -> None:
    """What was not acked comes again, and nothing else; promise 5."""
    async with unimsg.connect(url) as client:
        receiver, batch = await taken(client, queue, 6)
        acked = {1, 4}
        verbs = [
            Settlement("ack" if int(one.message.body or b"") in acked else "release", one.token)
            for one in batch
        ]
        assert list(await receiver.settle_batch(verbs)) == [None] * 6
        again: list[Received] = []
        while len(again) < 4:
            again += await receiver.receive_batch(10, 1.0)
        assert sorted(int(one.message.body or b"") for one in again) == [0, 2, 3, 5]


async def test_a_lease_that_was_extended_holds(url: str, queue: str) -> None:
    """Past the end of the first one nobody is given the message; promise 8."""
    async with unimsg.connect(url.replace("lease=5s", "lease=1s")) as client:
        receiver, (received,) = await taken(client, queue, 1)
        assert list(await receiver.extend_batch([received.token], 30.0)) == [None]
        over = (received.lease_until or 0.0) + 0.5
        while asyncio.get_running_loop().time() < over:
            assert list(await receiver.receive_batch(10, 1.0)) == []


async def test_a_stop_leaves_no_poll_open(url: str, queue: str, proxy: FaultProxy) -> None:
    """One that was cancelled would go on at the service and hide what it catches; promise 17."""
    async with unimsg.connect(url) as client:

        async def handle(_delivery: unimsg.Delivery[Any]) -> None: ...

        subscriber = client.subscriber(queue)
        running = asyncio.create_task(subscriber.run(handle))
        await eventually(lambda: proxy.under_way["ReceiveMessage"], "it polls")
        await subscriber.aclose()
        assert proxy.under_way["ReceiveMessage"] == 0
        await running


@pytest.mark.parametrize("scheme", ["sqs+fifo"])
async def test_a_group_waits_for_its_entry_that_failed(url: str, queue: str, proxy: FaultProxy) -> None:
    """Half of all entries are refused at first: the order of each group stays; promise 4."""
    proxy.rules = [Rule("partial", op="SendMessageBatch", rate=0.5, code="RequestThrottled", times=12)]
    wanted = {f"k{key}": list(range(8)) for key in range(4)}
    async with unimsg.connect(url) as client:
        publisher = client.publisher(queue)
        numbers = [(key, number) for number in range(8) for key in wanted]
        await publisher.publish_many(unimsg.Message(body=number, key=key) for key, number in numbers)
        assert kinds(proxy.log)["partial"] > 1
        found: dict[Any, list[Any]] = defaultdict(list)

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            found[delivery.key].append(delivery.body)

        await client.subscriber(queue, order="key").run_until_idle(handle)
    assert found == wanted
