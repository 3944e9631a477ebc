"""What the drills of brokers that push have in common; each broker adds those that only it can show.

Law: knows no broker. A class of drills has its own as the fixture `broker`, and says how a client gets there. Each
drill is there twice, by the same function: small, with one seed, and in full with three (`make drills`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import pytest

import unimsg
from tests.chaos import strikes
from tests.chaos.conftest import Play
from tests.chaos.drill import Progress
from tests.chaos.judge import Verdict
from tests.chaos.proxy import Proxy
from tests.chaos.torn import Torn, Way
from unimsg.spi import Topology

SMALL_ONE = 5_000
"""Messages of a small drill at most."""
SMALL = [pytest.mark.timeout(300)]
FULL = [pytest.mark.drill, pytest.mark.timeout(1800)]

Drill = Callable[..., Awaitable[Verdict]]


class Broker(Protocol):
    """A broker of the drills' own."""

    port: int

    def kill(self) -> None:
        """SIGKILL."""

    def start(self) -> None:
        """Begin, again on the log it had; returns when it answers."""


class Tear(NamedTuple):
    """Where a connection ends: in the middle of these bytes."""

    what: str
    way: Way
    marker: bytes


def sizes(small: int, full: int) -> pytest.MarkDecorator:
    """Play it small with one seed, and in full with three."""
    cases = [pytest.param(small, 1, marks=SMALL, id="small")]
    cases += [pytest.param(full, seed, marks=FULL, id=f"full-{seed}") for seed in (1, 2, 3)]
    return pytest.mark.parametrize(("messages", "seed"), cases)


def sizes_and_orders(small: int, full: int) -> pytest.MarkDecorator:
    """The same, with order by key; in full also without order."""
    cases = [pytest.param(small, 1, "key", marks=SMALL, id="key-small")]
    cases += [
        pytest.param(full, seed, ordering, marks=FULL, id=f"{ordering}-full-{seed}")
        for ordering in ("key", "none")
        for seed in (1, 2, 3)
    ]
    return pytest.mark.parametrize(("messages", "seed", "ordering"), cases)


class PushDrills:
    """The drills of one broker."""

    UNANSWERED: ClassVar[float] = 0.0
    """Where nobody answers an ack: seconds for which its connection must live on until one counts."""

    @staticmethod
    def through(*ports: int, **options: str) -> str:
        """Return the URL of the broker by these ports."""
        raise NotImplementedError

    @staticmethod
    async def provided() -> None:
        """Return when what was just made outlives a kill."""

    @pytest.fixture
    def drill(self, play: Play) -> Drill:
        """Give what plays a plan on queues of its own, and demands what every drill demands."""

        async def played(url: str, *, messages: int, straight: str | None = None, **given: Any) -> Verdict:
            names = await provide(straight or url)
            await self.provided()
            pace = {"window": 200 if messages > SMALL_ONE else 20, "pace": 0.1}
            plan = {"kill_consumers": 0.0, "patience": 20.0, "unanswered": self.UNANSWERED, "once": False}
            plan |= pace | names | given
            verdict = await play(url, messages=messages, ordered="ordering=key" in url, **plan)
            assert verdict.violations == {}
            assert verdict.confirmed == messages
            return verdict

        return played

    @sizes_and_orders(3_000, 100_000)
    async def test_the_broker_is_killed_twice(
        self, drill: Drill, broker: Broker, messages: int, seed: int, ordering: str
    ) -> None:
        """I: kill -9 at a third and at two thirds; promises 1, 2, 4."""
        verdict = await drill(
            self.through(broker.port, ordering=ordering),
            messages=messages,
            seed=seed,
            disturb=partial(strikes.kill, die=broker.kill, rise=broker.start),
        )

        assert verdict.struck == {"broker killed": 2}

    @sizes_and_orders(1_500, 20_000)
    async def test_consumers_are_killed_and_leave(
        self, drill: Drill, broker: Broker, messages: int, seed: int, ordering: str
    ) -> None:
        """I: every two seconds one is killed or told to leave, and another takes over; promises 1, 4, 6, 17."""
        verdict = await drill(
            self.through(broker.port, ordering=ordering),
            messages=messages,
            seed=seed,
            kill_consumers=2.0,
            leaving=0.5,
            work=0.05 if messages > SMALL_ONE else 0.01,
        )

        assert verdict.kills["consumer"] + verdict.struck["consumer told to leave"] > 0

    @sizes(3_000, 20_000)
    async def test_a_connection_is_torn_in_the_middle(
        self, drill: Drill, broker: Broker, messages: int, seed: int, tear: Tear
    ) -> None:
        """I: half of it arrives three times, and then nothing; promises 1, 2, 4."""
        what = f"torn in the middle of a {tear.what}"
        async with Torn(broker.port) as proxy:

            async def torn(progress: Progress) -> None:
                for part in (1 / 4, 1 / 2, 3 / 4):
                    await progress.reach(part)
                    progress.note(what)
                    await proxy.tear(tear.way, tear.marker)

            verdict = await drill(
                self.through(proxy.port, ordering="key"),
                straight=self.through(broker.port, ordering="key"),
                messages=messages,
                seed=seed,
                disturb=torn,
            )

        assert verdict.struck == {what: 3}

    @sizes(3_000, 20_000)
    async def test_the_network_is_a_black_hole(
        self, drill: Drill, broker: Broker, messages: int, seed: int
    ) -> None:
        """I: between everybody and the broker, late and then with a reset; for 30 s, for 3 s when it is small."""
        seconds = 30.0 if messages > SMALL_ONE else 3.0
        async with Proxy(broker.port) as proxy:
            verdict = await drill(
                self.through(proxy.port, ordering="none", heartbeat=f"{seconds / 3:g}s"),
                straight=self.through(broker.port, ordering="none"),
                messages=messages,
                seed=seed,
                unanswered=2 * seconds if self.UNANSWERED else 0.0,
                patience=3 * seconds,
                disturb=partial(strikes.cut, proxy=proxy, seconds=seconds),
            )

        assert verdict.struck == strikes.cuts(seconds)


async def provide(url: str) -> dict[str, str]:
    """Make the queues of a drill; returns what the plan calls them."""
    suffix = os.urandom(4).hex()
    names = {"destination": f"drill-{suffix}", "dead_letter": f"drill-dead-{suffix}"}
    async with unimsg.connect(url) as client:
        await client.provision(Topology(destination=names["destination"], groups=["crew"]))
        await client.provision(Topology(destination=names["dead_letter"], groups=["judge"]))
    return names
