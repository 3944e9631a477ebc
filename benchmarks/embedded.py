"""The embedded backends with nothing left out: publish a batch, consume and ack it, through client and subscriber.

Beside it, on a file of its own, a bare `sqlite3` loop in one thread: a transaction for each batch of inserts, one for
each batch of leases and one for each batch of acks, without ids, lanes, groups or other processes to think of; and two
peers that have no batches, each message published and taken alone.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import unimsg
from benchmarks.table import Bar, Measured, compare
from unimsg import Message, codecs

MESSAGES = 20_000
ALONE = 1_000
"""Messages of the peers, which commit each."""
BATCH = 100
BODY = b"x" * 100
KEYS = 100
Run = Callable[[], Awaitable[None]]

TABLE = "CREATE TABLE queue (seq INTEGER PRIMARY KEY, key, body BLOB, until REAL)"
FREE = "SELECT seq, key, body FROM queue WHERE until IS NULL ORDER BY seq LIMIT ?"


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder on the disk for one run."""
    with tempfile.TemporaryDirectory(prefix="unimsg-bench-") as found:
        yield Path(found)


def ours(url: str) -> Run:
    """Return a run of ours: all is published in batches, then all is consumed; `{}` in the URL is a folder."""

    async def run() -> None:
        seen = 0

        async def handle(deliveries: Any) -> None:
            nonlocal seen
            seen += len(deliveries)

        with folder() as place:
            async with unimsg.connect(url.format(place)) as client:
                publisher = client.publisher("orders", codec=codecs.BYTES)
                for first in range(0, MESSAGES, BATCH):
                    await publisher.publish_many(
                        Message(body=BODY, key=str(n % KEYS)) for n in range(first, first + BATCH)
                    )
                subscriber = client.subscriber(
                    "orders",
                    group="g",
                    codec=codecs.BYTES,
                    batch=BATCH,
                    batch_wait=0.001,
                    concurrency=1,
                    order="key",
                )
                health = await subscriber.run_until_idle(handle)
                assert seen == health.counters["acked"] == MESSAGES

    return run


def bare(synchronous: str) -> Run:
    """Return a run of plain `sqlite3`."""

    async def run() -> None:
        with folder() as place, closing(sqlite3.connect(place / "bare.db", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={synchronous}")
            db.execute(TABLE)
            for first in range(0, MESSAGES, BATCH):
                rows = [(str(n % KEYS), BODY) for n in range(first, first + BATCH)]
                _transaction(db, "INSERT INTO queue (key, body) VALUES (?, ?)", rows)
            seen = 0
            while taken := db.execute(FREE, (BATCH,)).fetchall():
                seqs = [(row[0],) for row in taken]
                _transaction(db, "UPDATE queue SET until = 1 WHERE seq = ?", seqs)
                _transaction(db, "DELETE FROM queue WHERE seq = ?", seqs)
                seen += len(taken)
            assert seen == MESSAGES

    return run


def _transaction(db: sqlite3.Connection, statement: str, rows: list[Any]) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany(statement, rows)
    db.execute("COMMIT")


def persist_queue() -> Run | None:
    """Return a run of persist-queue's queue with acks; None where it is not installed."""
    try:
        from persistqueue import SQLiteAckQueue  # noqa: PLC0415 - a peer, in the extra `bench`
    except ImportError:
        return None

    async def run() -> None:
        with folder() as place:
            queue = SQLiteAckQueue(str(place), auto_commit=True)
            for _ in range(ALONE):
                queue.put(BODY)
            for _ in range(ALONE):
                queue.ack(queue.get())
            queue.close()

    return run


def litequeue() -> Run | None:
    """Return a run of litequeue; None where it is not installed."""
    try:
        from litequeue import LiteQueue  # noqa: PLC0415 - a peer, in the extra `bench`
    except ImportError:
        return None

    async def run() -> None:
        with folder() as place:
            queue = LiteQueue(str(place / "queue.db"))
            for _ in range(ALONE):
                queue.put(BODY.decode())
            for _ in range(ALONE):
                message = queue.pop()
                assert message is not None
                queue.done(message.message_id)
            queue.close()

    return run


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure all of it."""
    rows: list[Measured] = [*compare("memory", {"unimsg": (MESSAGES, ours("memory://"))}, rounds)]
    bars: list[Bar] = []
    for synchronous in ("NORMAL", "FULL"):
        path = f"sqlite, batches of {BATCH}, {synchronous}"
        contenders: dict[str, tuple[int, Run]] = {
            "bare sqlite3": (MESSAGES, bare(synchronous)),
            "unimsg": (MESSAGES, ours(f"sqlite:///{{}}/messages.db?synchronous={synchronous}")),
        }
        bars.append(Bar(path, "bare sqlite3", 10.0))
        if synchronous == "FULL":
            peers = {"persist-queue": persist_queue(), "litequeue": litequeue()}
            contenders |= {name: (ALONE, peer) for name, peer in peers.items() if peer is not None}
            bars += [Bar(path, name, 2.0, "faster") for name in peers]
        rows += compare(path, contenders, rounds)
    return rows, bars
