"""What stays bounded however much goes through: the log, what is remembered of ids, leases, lanes, publishers.

Law: counts what is kept, not time; the one test that looks at the process's memory runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import unimsg
from tests.unit.backends.harness import World, message, settle
from unimsg.backends.memory.log import SIZE
from unimsg.client.publishers import CACHED

PROGRAM = Path(__file__).with_name("through_memory.py")
ROUNDS = 40
BATCH = 500


async def send_and_ack(world: World, backend: Any, rounds: int) -> None:
    """Let some thousand messages of ever new keys go through one group."""
    receiver = await world.receiver(backend, prefetch=BATCH)
    for number in range(rounds):
        batch = [message(str(n), key=f"{number}/{n % 50}", id=f"{number}/{n}") for n in range(BATCH)]
        await world.send(backend, *batch)
        received: list[Any] = []
        while len(received) < BATCH:
            more = await receiver.receive_batch(BATCH, 0)
            assert more
            await settle(receiver, more)
            received += more
        await world.clock.advance(1)


@pytest.mark.parametrize("world", ["memory"], indirect=True)
async def test_memory_keeps_what_its_options_say(world: World) -> None:
    """History, ids, leases and lanes: bounded by options, none of them by what went through."""
    backend = await world.backend(history=2 * SIZE, dedup_ids=1000)
    await send_and_ack(world, backend, ROUNDS)
    log = backend._broker.hub("orders").log
    (group,) = log.groups.values()

    assert log.next == ROUNDS * BATCH
    assert len(log.chunks) <= 2 + 2
    assert len(log._seen._new) + len(log._seen._old) <= 1000
    assert len(group._lanes) == len(group._later) == 0
    assert sum(len(batch.entries) for _, _, batch in group._leases) == 0
    assert len(group._leases) <= 2 * 64 + 2


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
async def test_sqlite_keeps_what_its_options_say(world: World) -> None:
    """The same in rows; what is past history and window goes with what comes."""
    backend = await world.backend(history=2000, dedup=5.0)
    await send_and_ack(world, backend, ROUNDS)

    async def rows(table: str) -> int:
        found: int = await backend.writer.peek(
            lambda db: db.execute(f"SELECT count(*) FROM unimsg_{table}").fetchone()[0]  # noqa: S608 - our own words
        )
        return found

    assert await rows("messages") <= 2000 + 3 * 1000
    assert await rows("ids") <= 5 * BATCH + 4 * 1000
    assert await rows("entries") == await rows("lanes") == 0
    assert await rows("members") == await rows("groups") == 1


async def test_a_client_keeps_so_many_publishers(world: World) -> None:
    """A program that publishes to ever new destinations keeps the last of them open."""
    async with unimsg.connect("memory://") as client:
        for number in range(CACHED + 50):
            await client.publish(f"orders-{number}", number)

        assert len(client._publishers._cache) == CACHED


def through_memory(url: str, messages: int) -> tuple[int, int]:
    """Let messages through a slow handler in a process of its own; its memory early, and at most, in KiB."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), url, str(messages)], check=True, capture_output=True, text=True
    )
    early, most = map(int, done.stdout.split())
    return early, most


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its memory")
def test_memory_does_not_grow_with_what_goes_through() -> None:
    """Promise 18: 50,000 messages; what options keep is full after a fifth, and then nothing is added.

    One that leaks fifty bytes a message fails.
    """
    early, most = through_memory("memory://?history=2000&dedup_ids=5000", 50_000)

    assert most - early < 2 * 1024


@pytest.mark.drill
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its memory")
def test_a_million_messages_with_flat_memory() -> None:
    """Promise 18: a million messages of one kilobyte through a slow handler, with the options that everybody has."""
    early, most = through_memory("memory://", 1_000_000)

    assert most - early < 16 * 1024
