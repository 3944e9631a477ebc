"""The fault drills of RabbitMQ: broker, network and consumers end at bad moments, a disk is full; nothing is lost.

Law: what it shares with other brokers that push is in `push`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

import pytest

import unimsg
from tests.chaos import strikes
from tests.chaos.push import SMALL_ONE, Drill, PushDrills, Tear, sizes
from tests.rabbitmq.conftest import bare
from tools.brokers.rabbitmq import AGED, PASSWORD, USER, Broker
from unimsg.spi import Settlement

TEARS = [  # Basic.Publish on its way out; the head of Basic.Ack on its way in
    Tear("frame", "to the broker", b"\x00\x3c\x00\x28"),
    Tear("confirm", "from the broker", b"\x00\x00\x00\x0d\x00\x3c\x00\x50"),
]


@pytest.fixture
def broker(frail_rabbitmq: Broker) -> Broker:
    """The broker that may be hurt; each drill leaves it as it was."""
    return frail_rabbitmq


@pytest.mark.xdist_group("frail-rabbitmq")
class TestRabbitMQ(PushDrills):
    """Quorum queues on a broker of their own."""

    UNANSWERED = 3.0

    @staticmethod
    def through(*ports: int, **options: str) -> str:
        (port,) = ports
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port}?{query}"

    @staticmethod
    async def provided() -> None:
        await asyncio.sleep(AGED)  # nothing that can be asked tells of it

    @pytest.fixture(params=TEARS, ids=lambda tear: tear.what)
    def tear(self, request: pytest.FixtureRequest) -> Tear:
        """In the middle of a publish, or of its confirm."""
        tear: Tear = request.param
        return tear

    @sizes(1_000, 20_000)
    async def test_what_waits_for_its_retry_outlives_a_killed_broker(
        self, broker: Broker, show: Callable[[str], None], messages: int, seed: int
    ) -> None:
        """I: copies are being confirmed and originals acked when the broker dies; promises 1, 5, 9."""
        bodies = [str(number) for number in range(messages)]
        part, found, settled = random.Random(seed).uniform(0.2, 0.8), set[str](), 0
        async with bare(self.through(broker.port)) as there:
            await self.provided()
            await there.fill(*bodies)
            receiver = await there.receiver(prefetch=200)

            enough = asyncio.Event()

            async def fail() -> None:
                nonlocal settled
                while batch := await receiver.receive_batch(50, 10.0):
                    retries = [Settlement("retry", r.token, r.assignment, 1.0, executions=1) for r in batch]
                    settled += (await receiver.settle_batch(retries)).count(None)
                    if settled > part * messages:
                        enough.set()

            failing = asyncio.create_task(fail())
            await enough.wait()
            await asyncio.to_thread(broker.kill)
            with pytest.raises(unimsg.Error):
                await failing
            await asyncio.to_thread(broker.start)
            receiver, taken = await there.receiver(), 0
            async with asyncio.timeout(120):
                while len(found) < messages:
                    batch = await receiver.receive_batch(500, 1.0)
                    found |= {received.message.id or "" for received in batch}
                    taken += len(batch)
                    await receiver.settle_batch([Settlement("ack", r.token, r.assignment) for r in batch])

        show(f"{settled} of {messages} wait at the kill: 0 lost, {taken - messages} twice\n")
        assert found == set(bodies)

    @sizes(3_000, 100_000)
    async def test_the_disk_is_full_for_a_while(
        self, drill: Drill, broker: Broker, messages: int, seed: int
    ) -> None:
        """I: publishers are blocked, for 20 s, 3 s when it is small; some that wait are retries; promises 1, 2, 5."""

        def keep_free(size: str) -> None:
            broker.control("set_disk_free_limit", size)

        verdict = await drill(
            self.through(broker.port),
            messages=messages,
            seed=seed,
            poison=0.05,
            window=200 if messages > SMALL_ONE else 10,  # it takes the tool seconds to fill the disk
            disturb=partial(
                strikes.block,
                what="disk full",
                begin=partial(keep_free, "1000000GB"),
                end=partial(keep_free, "1MB"),
                seconds=20.0 if messages > SMALL_ONE else 3.0,
            ),
        )

        assert verdict.struck == {"disk full": 2}
