"""The fault drills of ActiveMQ: broker, network and consumers end at bad moments, a standby takes over; none is lost.

Law: each drill is there twice, by the same function: small, with one seed, and in full with three (`make drills`).
"""

from __future__ import annotations

import asyncio
import os
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
from tools.brokers.activemq import PASSWORD, USER, Broker
from tools.brokers.services import HOME
from unimsg.spi import Topology

SMALL_ONE = 5_000
"""Messages of a small drill at most."""
SMALL = [pytest.mark.pending, pytest.mark.xdist_group("activemq-drills"), pytest.mark.timeout(300)]
FULL = [pytest.mark.drill, pytest.mark.timeout(1800)]
TEARS: dict[str, tuple[Way, bytes]] = {
    "frame": ("to the broker", b"SEND\ndestination:"),
    "transaction": ("to the broker", b"COMMIT\ntransaction:"),
    "receipt": ("from the broker", b"RECEIPT\nreceipt-id:"),
}


def sizes(small: int, full: int) -> pytest.MarkDecorator:
    """Play it small with one seed, and in full with three."""
    cases = [pytest.param(small, 1, marks=SMALL, id="small")]
    cases += [pytest.param(full, seed, marks=FULL, id=f"full-{seed}") for seed in (1, 2, 3)]
    return pytest.mark.parametrize(("messages", "seed"), cases)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the drills of this file; each leaves it as it was."""
    made = Broker(tmp_path_factory.mktemp("activemq") / "broker", HOME / "cache")
    made.start()
    yield made
    made.stop()


def through(*ports: int, **options: str) -> str:
    """The URL of the broker by these ports."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"activemq://{USER}:{PASSWORD}@{hosts}?{query}"


async def provide(url: str) -> dict[str, str]:
    """Make the queues of a drill; returns what the plan calls them."""
    suffix = os.urandom(4).hex()
    names = {"destination": f"drill-{suffix}", "dead_letter": f"drill-dead-{suffix}"}
    async with unimsg.connect(url) as client:
        await client.provision(Topology(destination=names["destination"], groups=["crew"]))
        await client.provision(Topology(destination=names["dead_letter"], groups=["judge"]))
    return names


Drill = Callable[..., Awaitable[Verdict]]


@pytest.fixture
def drill(play: Play) -> Drill:
    """Give what plays a plan on queues of its own, and demands what every drill demands."""

    async def played(url: str, *, messages: int, straight: str | None = None, **given: Any) -> Verdict:
        names = await provide(straight or url)
        pace = {"window": 200, "pace": 0.1} if messages > SMALL_ONE else {"window": 20, "pace": 0.1}
        plan = {"kill_consumers": 0.0, "patience": 20.0, "once": False} | pace | names | given
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
        disturb=lambda progress: strikes.kill(progress, broker.kill, broker.start),
    )

    assert verdict.struck == {"broker killed": 2}


@sizes(3_000, 20_000)
async def test_delayed_retries_outlive_a_killed_broker(
    drill: Drill, broker: Broker, messages: int, seed: int
) -> None:
    """I: a tenth of all fails three times, so some waits in the scheduler when the broker is killed; promises 1, 5, 9.

    With more of them the breaker would rest the consumers, and nothing would wait at the broker.
    """
    verdict = await drill(
        through(broker.port, ordering="none"),
        messages=messages,
        seed=seed,
        poison=0.1,
        disturb=lambda progress: strikes.kill(progress, broker.kill, broker.start),
    )

    assert verdict.struck == {"broker killed": 2}
    assert verdict.dead > messages / 15


@sizes(1_500, 20_000)
@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_consumers_are_killed_and_leave(
    drill: Drill, broker: Broker, messages: int, seed: int, ordering: str
) -> None:
    """I: every two seconds one is killed or told to leave; its keys go to another; promises 1, 4, 6, 17."""
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
    """I: half of a frame of a publish, of the end of a transaction, of a receipt, then nothing; promises 1, 2, 4."""
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


@sizes(3_000, 50_000)
async def test_the_network_is_a_black_hole(drill: Drill, broker: Broker, messages: int, seed: int) -> None:
    """I: between everybody and the broker, late and then with a reset; for 30 s, for 3 s when it is small."""
    seconds = 30.0 if messages > SMALL_ONE else 3.0
    async with Proxy(broker.port) as proxy:
        verdict = await drill(
            through(proxy.port, heartbeat=f"{seconds / 3:g}s", ordering="none"),
            straight=through(broker.port, ordering="none"),
            messages=messages,
            seed=seed,
            disturb=partial(strikes.cut, proxy=proxy, seconds=seconds),
        )

    assert verdict.struck.total() == 2


@sizes(3_000, 20_000)
async def test_the_standby_takes_over(
    drill: Drill, tmp_path_factory: pytest.TempPathFactory, messages: int, seed: int
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
            through(*(one.port for one in pair), ordering="key"),
            messages=messages,
            seed=seed,
            disturb=fail_over,
        )
    finally:
        for one in pair:
            one.stop()

    assert verdict.struck == {"active broker killed": 2}
