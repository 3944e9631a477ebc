"""The fault drills of RabbitMQ: broker, network and consumers end at bad moments, a disk is full; nothing is lost.

Law: each drill is there twice, by the same function: small, with one seed, and in full with three (`make drills`).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

import unimsg
from tests.chaos import strikes
from tests.chaos.conftest import Play
from tests.chaos.drill import Progress
from tests.chaos.judge import Verdict
from tests.chaos.proxy import Proxy
from tests.chaos.torn import Torn, Way
from tests.rabbitmq.conftest import bare
from tools.brokers.rabbitmq import PASSWORD, USER, Broker
from tools.brokers.services import HOME
from unimsg.spi import Settlement, Topology

SMALL_ONE = 5_000
"""Messages of a small drill at most."""
SMALL = [pytest.mark.pending, pytest.mark.xdist_group("rabbitmq-drills"), pytest.mark.timeout(300)]
FULL = [pytest.mark.drill, pytest.mark.timeout(1800)]
AGED = 2.0
"""Seconds after which a quorum queue survives a kill: its node notes it a little later than it answers."""
PUBLISH, CONFIRM = b"\x00\x3c\x00\x28", b"\x00\x00\x00\x0d\x00\x3c\x00\x50"
"""Basic.Publish on its way out; the head of Basic.Ack on its way in."""
TEARS: dict[str, tuple[Way, bytes]] = {
    "frame": ("to the broker", PUBLISH),
    "confirm": ("from the broker", CONFIRM),
}


def sizes(small: int, full: int) -> pytest.MarkDecorator:
    """Play it small with one seed, and in full with three."""
    cases = [pytest.param(small, 1, marks=SMALL, id="small")]
    cases += [pytest.param(full, seed, marks=FULL, id=f"full-{seed}") for seed in (1, 2, 3)]
    return pytest.mark.parametrize(("messages", "seed"), cases)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the drills of this file; each leaves it as it was."""
    made = Broker(tmp_path_factory.mktemp("rabbitmq") / "broker", HOME / "cache")
    made.start()
    yield made
    made.stop()


def through(port: int, **options: str) -> str:
    """The URL of the broker by one port."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port}?{query}"


async def provide(url: str) -> dict[str, str]:
    """Make the queues of a drill; returns what the plan calls them."""
    suffix = os.urandom(4).hex()
    names = {"destination": f"drill-{suffix}", "dead_letter": f"drill-dead-{suffix}"}
    async with unimsg.connect(url) as client:
        await client.provision(Topology(destination=names["destination"], groups=["crew"]))
        await client.provision(Topology(destination=names["dead_letter"], groups=["judge"]))
    await asyncio.sleep(AGED)
    return names


Drill = Callable[..., Awaitable[Verdict]]


@pytest.fixture
def drill(play: Play) -> Drill:
    """Give what plays a plan on queues of its own, and demands what every drill demands."""

    async def played(url: str, *, messages: int, straight: str | None = None, **given: Any) -> Verdict:
        names = await provide(straight or url)
        pace = {"window": 200, "pace": 0.1} if messages > SMALL_ONE else {"window": 20, "pace": 0.1}
        plan = {"kill_consumers": 0.0, "patience": 20.0, "unanswered": 3.0, "once": False}
        plan |= pace | names | given
        verdict = await play(url, messages=messages, ordered="ordering=key" in url, **plan)
        assert verdict.violations == {}
        assert verdict.confirmed == messages
        return verdict

    return played


@sizes(3_000, 100_000)
@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_the_broker_is_killed_twice(
    drill: Drill, broker: Broker, messages: int, seed: int, ordering: str
) -> None:
    """I: kill -9 at a third and at two thirds; promises 1, 2, 4."""
    verdict = await drill(
        through(broker.port, ordering=ordering),
        messages=messages,
        seed=seed,
        disturb=partial(strikes.kill, die=broker.kill, rise=broker.start),
    )

    assert verdict.struck == {"broker killed": 2}


@sizes(1_000, 20_000)
async def test_what_waits_for_its_retry_outlives_a_killed_broker(
    broker: Broker, capsys: pytest.CaptureFixture[str], messages: int, seed: int
) -> None:
    """I: copies are being confirmed and originals acked when the broker dies; promises 1, 5, 9."""
    bodies = [str(number) for number in range(messages)]
    part, found, settled = random.Random(seed).uniform(0.2, 0.8), set[str](), 0
    async with bare(through(broker.port)) as there:
        await asyncio.sleep(AGED)
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

    with capsys.disabled():
        print(f"\n{settled} of {messages} wait at the kill: 0 lost, {taken - messages} twice")  # noqa: T201 - the numbers
    assert found == set(bodies)


@sizes(1_500, 20_000)
@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_consumers_are_killed_and_leave(
    drill: Drill, broker: Broker, messages: int, seed: int, ordering: str
) -> None:
    """I: every two seconds one is killed or told to leave; with order another takes over; promises 1, 4, 6, 17."""
    verdict = await drill(
        through(broker.port, ordering=ordering),
        messages=messages,
        seed=seed,
        kill_consumers=2.0,
        leaving=0.5,
        work=0.01,
    )

    assert verdict.kills["consumer"] + verdict.struck["consumer told to leave"] > 0


@sizes(3_000, 20_000)
@pytest.mark.parametrize("what", TEARS)
async def test_a_connection_is_torn_in_the_middle(
    drill: Drill, broker: Broker, messages: int, seed: int, what: str
) -> None:
    """I: half of a frame of a publish, or of a confirm, and then nothing; promises 1, 2, 4."""
    async with Torn(broker.port) as proxy:

        async def tear(progress: Progress) -> None:
            for part in (1 / 4, 1 / 2, 3 / 4):
                await progress.reach(part)
                progress.note(f"torn in the middle of a {what}")
                await proxy.tear(*TEARS[what])

        verdict = await drill(
            through(proxy.port, ordering="key"),
            straight=through(broker.port, ordering="key"),
            messages=messages,
            seed=seed,
            disturb=tear,
        )

    assert verdict.struck == {f"torn in the middle of a {what}": 3}


@sizes(3_000, 20_000)
async def test_the_network_is_a_black_hole(drill: Drill, broker: Broker, messages: int, seed: int) -> None:
    """I: between everybody and the broker, late and then with a reset; for 30 s, for 3 s when it is small."""
    seconds = 30.0 if messages > SMALL_ONE else 3.0
    async with Proxy(broker.port) as proxy:
        verdict = await drill(
            through(proxy.port, heartbeat=f"{seconds / 3:g}s"),
            straight=through(broker.port),
            messages=messages,
            seed=seed,
            unanswered=2 * seconds,
            patience=3 * seconds,
            disturb=partial(strikes.cut, proxy=proxy, seconds=seconds),
        )

    assert verdict.struck.total() == 2


@sizes(3_000, 20_000)
async def test_the_disk_is_full_for_a_while(drill: Drill, broker: Broker, messages: int, seed: int) -> None:
    """I: publishers are blocked, for 20 s, 3 s when it is small; some that wait are retries; promises 1, 2, 5."""
    seconds = 20.0 if messages > SMALL_ONE else 3.0

    async def fill(progress: Progress) -> None:
        for part in strikes.THIRDS:
            await progress.reach(part)
            progress.note("disk full")
            await asyncio.to_thread(broker.control, "set_disk_free_limit", "1000000GB")
            await asyncio.sleep(seconds)
            await asyncio.to_thread(broker.control, "set_disk_free_limit", "1MB")

    verdict = await drill(through(broker.port), messages=messages, seed=seed, poison=0.05, disturb=fill)

    assert verdict.struck == {"disk full": 2}
