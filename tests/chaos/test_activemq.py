"""The fault drills of ActiveMQ: broker, network and consumers end at bad moments, a standby takes over; none is lost.

Law: what it shares with other brokers that push is in `push`.
"""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.chaos import strikes
from tests.chaos.drill import Progress
from tests.chaos.push import Drill, PushDrills, Tear, sizes
from tools.brokers.activemq import PASSWORD, USER, Broker
from tools.brokers.services import HOME

TEARS = [
    Tear("frame", "to the broker", b"SEND\ndestination:"),
    Tear("transaction", "to the broker", b"COMMIT\ntransaction:"),
    Tear("receipt", "from the broker", b"RECEIPT\nreceipt-id:"),
]


@pytest.fixture
def broker(frail_activemq: Broker) -> Broker:
    """The broker that may be hurt; each drill leaves it as it was."""
    return frail_activemq


@pytest.mark.xdist_group("frail-activemq")
class TestActiveMQ(PushDrills):
    """Virtual topics on a broker of their own."""

    @staticmethod
    def through(*ports: int, **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"activemq://{USER}:{PASSWORD}@{hosts}?{query}"

    @pytest.fixture(params=TEARS, ids=lambda tear: tear.what)
    def tear(self, request: pytest.FixtureRequest) -> Tear:
        """In the middle of a publish, of the end of a transaction, of what confirms either."""
        tear: Tear = request.param
        return tear

    @sizes(3_000, 20_000)
    async def test_delayed_retries_outlive_a_killed_broker(
        self, drill: Drill, broker: Broker, messages: int, seed: int
    ) -> None:
        """I: a tenth of all fails three times, so some waits in the scheduler at the kill; promises 1, 5, 9."""
        verdict = await drill(
            self.through(broker.port, ordering="none"),
            messages=messages,
            seed=seed,
            poison=0.1,
            brakes=False,  # what a kill holds up comes in a crowd, mostly failures: consumers would rest from it
            disturb=partial(strikes.kill, die=broker.kill, rise=broker.start),
        )

        assert verdict.struck == {"broker killed": 2}
        assert verdict.dead > messages / 15

    @sizes(3_000, 20_000)
    async def test_the_standby_takes_over(
        self, drill: Drill, tmp_path_factory: pytest.TempPathFactory, messages: int, seed: int
    ) -> None:
        """I: two brokers on one store; the active one is killed, the standby opens its port when it has the lock."""
        folder = tmp_path_factory.mktemp("pair")
        pair = [Broker(folder / name, HOME / "cache", data=folder / "data") for name in ("one", "two")]
        pair[0].start()
        await asyncio.to_thread(pair[1].start, standby=True)

        async def fail_over(progress: Progress) -> None:
            for part, active, standby in ((1 / 3, pair[0], pair[1]), (2 / 3, pair[1], pair[0])):
                await progress.reach(part)
                progress.note("active broker killed")
                await asyncio.to_thread(active.kill)
                await asyncio.to_thread(standby.await_answer)
                await asyncio.to_thread(active.start, standby=True)

        try:
            verdict = await drill(
                self.through(*(one.port for one in pair), ordering="key"),
                messages=messages,
                seed=seed,
                disturb=fail_over,
            )
        finally:
            for one in pair:
                one.stop()

        assert verdict.struck == {"active broker killed": 2}
