"""An effect that happens once: a call and its duplicate with rows in memory, beside Powertools; claims in a file.

Powertools is given a dict for its storage, with the condition that its DynamoDB layer has, and one fixed context: what
is measured is its own. It is synchronous, and its lock has no token.
"""

from __future__ import annotations

import sqlite3
import tempfile
import types
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import unimsg
from benchmarks.table import Bar, Measured, compare
from unimsg.idempotency import Ask, Grip

CALLS = 20_000
KEYS = 100
"""Of the duplicates: one call in two hundred is a first one."""
BATCH = 100
CLAIMS = 20_000
FIRST, AGAIN = "idempotent call, first", "idempotent call, duplicate"
CLAIM = "idempotent claims in a file, by 100"
SCOPE = "orders/billing/service.charge"
Run = Callable[[], Awaitable[None]]


def events(keys: int) -> list[dict[str, Any]]:
    """As many as are called, with so many different keys."""
    return [{"id": f"order-{number % keys}", "amount": 12.5, "to": "somebody"} for number in range(CALLS)]


async def bare_job(event: dict[str, Any]) -> None:
    """The effect; as a handler of messages it returns nothing."""


def bare(keys: int) -> Run:
    """Return a run without anything."""
    calls = events(keys)

    async def run() -> None:
        for event in calls:
            await bare_job(event)

    return run


def ours(keys: int) -> Run:
    """Return a run of ours, with a new store."""
    calls = events(keys)

    async def run() -> None:
        async with unimsg.store("memory://") as store:
            job = unimsg.idempotent(store, key=lambda event: event["id"])(bare_job)
            for event in calls:
                await job(event)

    return run


def powertools() -> Callable[[int], Run] | None:  # noqa: C901 - a stand-in has many small methods
    """Return what makes a run of Powertools; None where it is not installed."""
    try:
        from aws_lambda_powertools.utilities import idempotency as theirs  # noqa: PLC0415 - a peer, in the extra `bench`
        from aws_lambda_powertools.utilities.idempotency import exceptions  # noqa: PLC0415 - as above
    except ImportError:
        return None

    class Layer(theirs.BasePersistenceLayer):  # type: ignore[misc]  # its types are not looked at
        def __init__(self) -> None:
            super().__init__()
            self._records: dict[str, Any] = {}

        def _get_record(self, idempotency_key: str) -> Any:
            if idempotency_key not in self._records:
                raise exceptions.IdempotencyItemNotFoundError
            return self._records[idempotency_key]

        def _put_record(self, data_record: Any) -> None:
            known = self._records.get(data_record.idempotency_key)
            if known is not None and not known.is_expired:
                raise exceptions.IdempotencyItemAlreadyExistsError(old_data_record=known)
            self._records[data_record.idempotency_key] = data_record

        def _update_record(self, data_record: Any) -> None:
            self._records[data_record.idempotency_key] = data_record

        def _delete_record(self, data_record: Any) -> None:
            del self._records[data_record.idempotency_key]

    context = types.SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)

    def made(keys: int) -> Run:
        calls = events(keys)

        async def run() -> None:
            config = theirs.IdempotencyConfig(event_key_jmespath="id")

            @theirs.idempotent(persistence_store=Layer(), config=config)  # type: ignore[untyped-decorator]  # as above
            def job(event: dict[str, Any], context: Any) -> None: ...

            for event in calls:
                job(event, context)

        return run

    return made


def in_a_file(*, complete: bool) -> Run:
    """Return a run of the SQLite store, safe against a loss of power: claims, and with `complete` their ends too."""

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="unimsg-bench-") as place:
            async with unimsg.store(f"sqlite:///{place}/seen.db") as store:
                for first in range(0, CLAIMS, BATCH):
                    asks = [Ask(SCOPE, f"order-{number}") for number in range(first, first + BATCH)]
                    answers = await store.claim(asks, lock=30.0, ttl=604_800.0)
                    if complete:
                        grips = [Grip(SCOPE, a.key, got.token) for a, got in zip(asks, answers, strict=True)]  # type: ignore[union-attr]  # no answer is an error here
                        assert all(await store.complete(grips, [None] * BATCH, ttl=604_800.0))

    return run


async def plain_inserts() -> None:
    """A bare `sqlite3` loop: a transaction for each batch of inserts that a duplicate key would not pass."""
    with tempfile.TemporaryDirectory(prefix="unimsg-bench-") as place:
        file = str(Path(place) / "seen.db")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE seen (scope TEXT, key TEXT, at REAL, PRIMARY KEY (scope, key))")
            for first in range(0, CLAIMS, BATCH):
                keys = [(SCOPE, f"order-{number}", 0.0) for number in range(first, first + BATCH)]
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", keys)
                connection.execute("COMMIT")


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure all of it."""
    rows: list[Measured] = []
    peer = powertools()
    for path, keys in ((FIRST, CALLS), (AGAIN, KEYS)):
        contenders = {"bare call": (CALLS, bare(keys)), "unimsg": (CALLS, ours(keys))}
        if peer is not None:
            contenders["Powertools"] = (CALLS, peer(keys))
        rows += compare(path, contenders, rounds)
    claims = {
        "sqlite3 alone": (CLAIMS, plain_inserts),
        "unimsg": (CLAIMS, in_a_file(complete=False)),
        "unimsg, and completed": (CLAIMS, in_a_file(complete=True)),
    }
    rows += compare(CLAIM, claims, rounds)
    return rows, [
        Bar(FIRST, "Powertools", 0.25),
        Bar(AGAIN, "Powertools", 0.1),
        Bar(CLAIM, "sqlite3 alone", 3.0),
    ]
