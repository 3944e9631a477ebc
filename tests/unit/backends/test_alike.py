"""Memory and sqlite, given the same moves, behave alike: each is the model of the other."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.backends.harness import World, message, settlement
from unimsg.message import Position
from unimsg.spi import Received
from unimsg.testing.clock import ManualClock

LEASE = 10.0
MEMBERS = 3

keys = st.sampled_from([None, None, "a", "b"])
seconds = st.sampled_from([0.0, 0.0, 0.0, 1.5, 4.5])
moves = st.one_of(
    st.tuples(
        st.just("send"),
        st.lists(
            st.tuples(keys, st.integers(0, 40), seconds, st.sampled_from([None, None, None, 3.5, 20.5])),
            min_size=1,
            max_size=6,
        ),
    ),
    st.tuples(st.just("receive"), st.integers(0, MEMBERS - 1)),
    st.tuples(st.just("receive"), st.integers(0, MEMBERS - 1)),
    st.tuples(
        st.just("settle"),
        st.lists(
            st.tuples(st.integers(0, 30), st.sampled_from(["ack", "ack", "retry", "release"]), seconds),
            min_size=1,
            max_size=8,
        ),
    ),
    st.tuples(st.just("extend"), st.lists(st.integers(0, 30), min_size=1, max_size=4)),
    st.tuples(st.just("advance"), st.sampled_from([1.0, 4.0, 11.0, 40.0])),
    st.tuples(st.just("leave"), st.integers(0, MEMBERS - 1), st.booleans()),
    st.tuples(st.just("seek"), st.sampled_from(["oldest", "newest"])),
    st.tuples(st.just("seek_to"), st.integers(0, 30)),
)


class Player:
    """Plays moves on one backend and writes down what can be seen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, tuple[Any, Received]] = {}
        """Every delivery by a name that does not depend on the backend."""
        self._held: list[str] = []
        self.deliveries = 0

    async def start(self) -> None:
        """Open a backend and the members of a group."""
        self._backend = await self._world.backend(lease=LEASE, dedup=15.0, retention=60.0)
        self._members = [await self._world.receiver(self._backend) for _ in range(MEMBERS)]

    async def play(self, move: Sequence[Any]) -> Any:
        """Make one move; returns what is to be compared."""
        moves: dict[str, Callable[..., Awaitable[Any]]] = {
            "send": self._send,
            "receive": self._receive,
            "settle": self._settle,
            "extend": self._extend,
            "leave": self._leave,
            "seek": self._seek,
            "seek_to": self._seek_to,
        }
        return await moves[move[0]](*move[1:])

    async def _send(self, wanted: Sequence[Any]) -> Any:
        sender = await self._backend.open_sender("orders")
        batch = [
            message(f"{key}{number}", key=key, id=str(number), delay=delay, ttl=ttl)
            for key, number, delay, ttl in wanted
        ]
        return list(await sender.send_batch(batch, 0))

    async def _receive(self, member: int) -> Any:
        """Receive all there is: which of several lanes comes first is nobody's promise."""
        receiver = self._members[member]
        batch: list[Received] = []
        while more := await receiver.receive_batch(1000, 0):
            batch += more
        self.deliveries += len(batch)
        lanes: dict[Any, list[Any]] = defaultdict(list)
        for received in batch:
            assert received.position is not None
            name = f"{received.position.offset}/{received.deliveries}/{received.attempts}"
            self._seen[name] = (receiver, received)
            if name not in self._held:
                self._held.append(name)
            lanes[received.lane].append((name, received.message.id, received.message.body))
        self._held.sort()
        return {lane: names if lane is not None else sorted(names) for lane, names in lanes.items()}

    async def _settle(self, wanted: Sequence[Any]) -> Any:
        if not self._held:
            return []
        results: list[Any] = []
        named = {self._held[index % len(self._held)]: (verb, delay) for index, verb, delay in wanted}
        for name in sorted(named):  # each on its own receiver
            receiver, received = self._seen[name]
            verb, delay = named[name]
            (error,) = await receiver.settle_batch([settlement(received, verb, delay)])
            results.append((name, verb, type(error)))
        return results

    async def _extend(self, wanted: Sequence[int]) -> Any:
        results: list[Any] = []
        for name in {self._held[index % len(self._held)]: None for index in wanted} if self._held else ():
            receiver, received = self._seen[name]
            (error,) = await receiver.extend_batch([received.token], LEASE)
            results.append((name, type(error)))
        return results

    async def _leave(self, member: int, abort: bool) -> None:
        await self._members[member].aclose(abort=abort)
        self._members[member] = await self._world.receiver(self._backend)

    async def _seek(self, start: Any) -> Any:
        first, *others = self._members
        for other in others:
            await other.aclose()
        await first.seek(start)
        self._members = [first, *[await self._world.receiver(self._backend) for _ in others]]
        return await first.lag()

    async def _seek_to(self, offset: int) -> Any:
        return await self._seek(Position("orders", offset))


async def play(script: Sequence[Sequence[Any]], folder: Path) -> int:
    """Play the same moves on both and compare after each; returns how many deliveries there were."""
    async with ManualClock() as clock:
        worlds = [World(scheme, folder, clock) for scheme in ("memory", "sqlite")]
        players = [Player(world) for world in worlds]
        try:
            for player in players:
                await player.start()
            for number, move in enumerate([*script, ("advance", 2 * LEASE), ("receive", 0)]):
                if move[0] == "advance":
                    await clock.advance(move[1])
                    continue
                memory, sqlite = [await player.play(move) for player in players]
                assert memory == sqlite, f"move {number}: {move}"
        finally:
            for world in worlds:
                await world.aclose()
        return players[0].deliveries


@given(st.lists(moves, min_size=5, max_size=60))
@settings(max_examples=150)
def test_memory_and_sqlite_behave_alike(script: list[tuple[Any, ...]]) -> None:
    """E, F, G, H: leases, lanes, delays, ttl, retention, dedup, seeks, leaving members, in any sequence of moves."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(script, Path(folder)))


def test_the_comparison_sees_something() -> None:
    """The search above is no empty proof: a plain script delivers what it should."""
    script = [
        ("send", [("a", 1, 0.0, None), (None, 2, 0.0, None)]),
        ("receive", 0),
        ("advance", 11.0),
        ("receive", 1),
    ]
    with tempfile.TemporaryDirectory() as folder:
        assert asyncio.run(play(script, Path(folder))) == 6
