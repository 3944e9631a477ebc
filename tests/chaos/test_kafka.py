"""The fault drills of Kafka: brokers, networks, consumers and tokens end at bad moments, and nothing is lost for it.

Law: each drill is there twice, by the same function: small, with one seed, and in full with three (`make drills`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import unimsg
from tests.chaos import strikes
from tests.chaos.conftest import Play
from tests.chaos.drill import Progress
from tests.chaos.judge import Verdict
from tests.chaos.proxy import Proxy
from tests.kafka.test_access import token
from tools.brokers.kafka import PASSWORD, USER, Cluster
from tools.brokers.process import free_ports
from tools.brokers.services import HOME
from unimsg.spi import Topology

MEMBER = "session=3s&handover=2s"
"""A killed consumer's share is free after three seconds."""
SETTINGS = {"listener.name.sasl_plaintext.connections.max.reauth.ms": "3000"}
"""Who came with a token is put out when that ends, or after three seconds."""
SMALL_ONE = 5_000
"""Messages of a small drill at most."""
SMALL = [pytest.mark.xdist_group("kafka-drills"), pytest.mark.timeout(300)]
FULL = [pytest.mark.drill, pytest.mark.timeout(1800)]


def sizes(small: int, full: int) -> pytest.MarkDecorator:
    """Play it small with one seed, and in full with three."""
    cases = [pytest.param(small, 1, marks=SMALL, id="small")]
    cases += [pytest.param(full, seed, marks=FULL, id=f"full-{seed}") for seed in (1, 2, 3)]
    return pytest.mark.parametrize(("messages", "seed"), cases)


class Brokers(Cluster):
    """A cluster to be hurt: one of its listeners leads through a port that a proxy may hold."""

    def __init__(self, folder: Path, brokers: int = 1) -> None:
        heap = "400m" if brokers == 1 else "256m"
        super().__init__(folder, HOME / "cache", brokers=brokers, heap=heap, settings=SETTINGS)
        (self.passage,) = free_ports(1)
        self.advertise(1, "SASL_PLAINTEXT", self.passage)

    def url(self) -> str:
        """Straight to the brokers."""
        return f"kafka://{self.bootstrap()}?{MEMBER}"

    def proxied(self, auth: str) -> str:
        """Through the passage."""
        return f"kafka://127.0.0.1:{self.passage}?tls=off&{auth}&{MEMBER}"

    def proxy(self) -> Proxy:
        """What holds the passage."""
        return Proxy(self.port(1, "SASL_PLAINTEXT"), self.passage)


PASSWORDS = f"user={USER}&password={PASSWORD}&auth=plain"


@contextmanager
def running(folder: Path, brokers: int = 1) -> Iterator[Brokers]:
    """A cluster of its own."""
    cluster = Brokers(folder / "kafka", brokers)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One broker for the drills of this file; each leaves it as it was."""
    with running(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def drill(play: Play) -> Callable[..., Awaitable[Verdict]]:
    """Give what plays a plan on topics of its own, and demands what every drill demands."""

    async def played(url: str, *, messages: int, straight: str | None = None, **given: Any) -> Verdict:
        names = await provide(straight or url)
        pace = {"window": 100, "pace": 0.1} if messages > SMALL_ONE else {"window": 20, "pace": 0.1}
        plan = {"kill_consumers": 0.0, "patience": 15.0, "once": False} | pace | names | given
        verdict = await play(url, messages=messages, **plan)
        assert verdict.violations == {}
        assert verdict.confirmed == messages
        return verdict

    return played


async def provide(url: str) -> dict[str, str]:
    """Make the topics of a drill, and name its group; returns what the plan calls them."""
    suffix = os.urandom(4).hex()
    names = {"destination": f"drill-{suffix}", "dead_letter": f"drill-dead-{suffix}"}
    async with unimsg.connect(url) as client:
        for name in names.values():
            await client.provision(Topology(destination=name, settings={"partitions": "6"}))
    return names | {"group": f"crew-{suffix}"}


Drill = Callable[..., Awaitable[Verdict]]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("once", [False, True], ids=["plain", "idempotent"])
async def test_a_small_drill(
    drill: Drill, broker_url: Callable[..., str], tmp_path: Path, once: bool
) -> None:
    """Promises 1 to 7, 14, 30: consumers and producers are killed all the time; the verdict holds."""
    verdict = await drill(
        f"{broker_url('kafka')}?{MEMBER}",
        messages=800,
        poison=0.02,
        work=0.02,
        kill_consumers=3.0,
        kill_producers=2.0,
        patience=20.0,
        once=once,
        store=f"sqlite:///{tmp_path}/seen.db" if once else None,
    )

    assert verdict.dead > 0


@sizes(3_000, 200_000)
async def test_the_broker_is_killed_twice(drill: Drill, cluster: Brokers, messages: int, seed: int) -> None:
    """I: kill -9 at a third and at two thirds; promises 1, 2, 4, 7."""
    die, rise = partial(cluster.kill, 1), partial(cluster.restart, 1)

    verdict = await drill(
        cluster.url(),
        messages=messages,
        seed=seed,
        disturb=lambda progress: strikes.kill(progress, die, rise),
    )

    assert verdict.struck == {"broker killed": 2}


@sizes(3_000, 100_000)
async def test_the_leader_is_killed(drill: Drill, tmp_path: Path, messages: int, seed: int) -> None:
    """I: three brokers, each of them leads something, dies once and comes back; promises 1, 2, 4, 7."""
    with running(tmp_path, brokers=3) as three:

        async def kill_each(progress: Progress) -> None:
            for broker in three.brokers:
                die, rise = partial(three.kill, broker), partial(three.restart, broker)
                pause = 5.0 if messages > SMALL_ONE else 3.0  # for which the others go on without it
                await strikes.kill(progress, die, rise, at=[broker / 4], pause=pause)

        pace = 0.1 if messages > SMALL_ONE else 0.5  # so that the last kill still meets somebody
        verdict = await drill(three.url(), messages=messages, seed=seed, disturb=kill_each, pace=pace)

    assert verdict.struck == {"broker killed": 3}


@sizes(1_500, 20_000)
async def test_consumers_come_and_go_with_slow_handlers(
    drill: Drill, cluster: Brokers, messages: int, seed: int
) -> None:
    """I: every two seconds one is killed or told to leave, handlers take 50 ms; promises 1, 6, 7, 8, 17."""
    verdict = await drill(
        cluster.url(),
        messages=messages,
        seed=seed,
        kill_consumers=2.0,
        leaving=0.5,
        work=0.05,
        concurrency=64 if messages > SMALL_ONE else 16,
    )

    assert verdict.kills["consumer"] + verdict.struck["consumer told to leave"] > 0


@sizes(3_000, 100_000)
async def test_the_network_is_cut(drill: Drill, cluster: Brokers, messages: int, seed: int) -> None:
    """I: between everybody and the broker, late and then with a reset; for 30 s, for 3 s when it is small."""
    seconds = 30.0 if messages > SMALL_ONE else 3.0
    async with cluster.proxy() as proxy:
        verdict = await drill(
            cluster.proxied(PASSWORDS),
            messages=messages,
            seed=seed,
            disturb=lambda progress: strikes.cut(progress, proxy, seconds),
        )

    assert verdict.struck == strikes.cuts(seconds)


@sizes(3_000, 200_000)
async def test_one_consumer_is_cut_off(drill: Drill, cluster: Brokers, messages: int, seed: int) -> None:
    """I: it is put out and does not know it; what it did meanwhile is not committed; promises 7, 8."""
    seconds, pace = (30.0, 0.1) if messages > SMALL_ONE else (4.0, 0.2)
    async with cluster.proxy() as proxy:
        verdict = await drill(
            cluster.url(),
            messages=messages,
            seed=seed,
            pace=pace,
            urls={"consumer-1": cluster.proxied(PASSWORDS)},
            disturb=lambda progress: strikes.cut(progress, proxy, seconds),
        )

    assert verdict.struck == strikes.cuts(seconds)


@asynccontextmanager
async def tokens(file: Path, seconds: float) -> AsyncIterator[None]:
    """Keep a token in a file that is good for so long, and renew it in the middle of that."""
    make = token(seconds)

    async def renew() -> None:
        while True:
            fresh = file.with_suffix(".new")
            fresh.write_text(await make())
            fresh.replace(file)
            await asyncio.sleep(seconds / 2)

    renewing = asyncio.create_task(renew())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        renewing.cancel()


@sizes(3_000, 100_000)
async def test_tokens_expire(
    drill: Drill, cluster: Brokers, tmp_path: Path, messages: int, seed: int
) -> None:
    """I: each connection ends with its token, after three seconds; promises 1, 2, 4, 7."""
    async with cluster.proxy() as proxy, tokens(tmp_path / "token", 3.0):
        await drill(
            cluster.proxied(f"auth=oauth&token_file={tmp_path}/token"),
            straight=cluster.url(),
            messages=messages,
            seed=seed,
        )

    assert proxy.taken > (200 if messages > SMALL_ONE else 40), "connections did not end with their tokens"
