"""What only one store has: the bound of memory, the file of SQLite; and a claim on a log, where nothing is leased."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

import unimsg
from unimsg.errors import ClosedError, ConfigError, NotFoundError, StoreUnavailableError
from unimsg.idempotency import Answer, Ask, Grip, Store
from unimsg.stores.memory import MemoryStore, Options
from unimsg.testing.clock import ManualClock
from unimsg.testing.shapes import installed

WEEK = 604_800.0


async def claim(store: Store, *keys: str, ttl: float = 100.0) -> list[Answer]:
    """Claim keys in one call."""
    answers = await store.claim([Ask("s", key) for key in keys], lock=10.0, ttl=ttl)
    return [answer for answer in answers if isinstance(answer, Answer)]


# ---------------------------------------------------------------- memory


async def test_a_full_store_says_so_rather_than_forget() -> None:
    """Promise 18: nothing of the batch is claimed; when a row's ttl has passed there is room again."""
    now = 0.0
    store = MemoryStore(Options(keys=3), clock=lambda: now)
    await claim(store, "a")
    now = 50.0
    await claim(store, "b")
    with pytest.raises(StoreUnavailableError, match=r"holds 2 keys of at most 3: shorten ttl=, .*\?keys="):
        await claim(store, "c", "d")
    assert len(store) == 2
    await claim(store, "c")
    now = 101.0
    (answer,) = await claim(store, "d")
    assert answer.state == "acquired"
    assert len(store) == 3
    (answer,) = await claim(store, "b")
    assert answer.state != "completed"


async def test_memory_follows_what_counts() -> None:
    """Promise 18: rows past their ttl go as new ones come, also when completion made them live longer."""
    now = 0.0
    store = MemoryStore(Options(), clock=lambda: now)
    for number in range(10_000):
        now = float(number)
        (answer,) = await claim(store, f"{number}", ttl=50.0)
        await store.complete([Grip("s", f"{number}", answer.token)], [None], ttl=80.0)
    assert len(store) <= 200


async def test_rows_are_private_unless_named() -> None:
    one, other = unimsg.store("memory://"), unimsg.store("memory://")
    await claim(one, "k")
    (answer,) = await claim(other, "k")
    assert answer.state == "acquired"


# ---------------------------------------------------------------- sqlite


async def test_the_file_is_for_its_owner_and_may_be_the_brokers(tmp_path: Path) -> None:
    """Safe by default: mode 0600; one file for messages and rows, each with a version of its own."""
    url = f"sqlite:///{tmp_path}/all.db"
    store, ran = unimsg.store(url), list[Any]()

    @unimsg.idempotent(store)
    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        ran.append(delivery.body)

    async with unimsg.connect(url) as client:
        await client.publish("orders", 1)
        await client.subscriber("orders", group="g").run_until_idle(handle)
    assert ran == [1]
    for path in tmp_path.iterdir():  # noqa: ASYNC240 - nobody else waits
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    connection = sqlite3.connect(tmp_path / "all.db")
    try:
        parts = dict(connection.execute("SELECT part, version FROM unimsg_schema"))
        scopes = [name for (name,) in connection.execute("SELECT name FROM unimsg_scopes")]
    finally:
        connection.close()
    assert parts == {"messages": 2, "idempotency": 1}
    assert len(scopes) == 1
    assert scopes[0].startswith("orders/g/")
    assert scopes[0].endswith("handle")


async def test_a_file_of_a_newer_version(tmp_path: Path) -> None:
    async with unimsg.store(f"sqlite:///{tmp_path}/seen.db"):
        pass
    connection = sqlite3.connect(tmp_path / "seen.db")
    connection.execute("UPDATE unimsg_schema SET version = 9")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigError, match="tables for idempotency, this unimsg knows 1: install a newer"):
        await unimsg.store(f"sqlite:///{tmp_path}/seen.db").__aenter__()


async def test_where_there_is_no_file(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/seen.db?create=false", f"sqlite:///{tmp_path}/missing/seen.db"):
        with pytest.raises(NotFoundError):
            await unimsg.store(url).__aenter__()


async def test_a_store_that_is_not_open(tmp_path: Path) -> None:
    with pytest.raises(ClosedError, match="is not open: use it within `async with store`"):
        await claim(unimsg.store(f"sqlite:///{tmp_path}/seen.db"), "k")


async def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """Promise 27: what would be written nobody would find, so the store is down."""
    async with unimsg.store(f"sqlite:///{tmp_path}/seen.db") as store:
        await claim(store, "k")
        (tmp_path / "seen.db").rename(tmp_path / "elsewhere.db")
        with pytest.raises(StoreUnavailableError, match="was deleted or replaced while it was in use"):
            await claim(store, "k")


async def test_the_file_follows_what_counts(tmp_path: Path) -> None:
    """Promise 18: rows past their ttl go as new ones come."""
    async with (
        ManualClock() as clock,
        unimsg.store(f"sqlite:///{tmp_path}/seen.db?synchronous=OFF") as store,
    ):
        for number in range(60):
            await claim(store, *(f"{number}-{n}" for n in range(50)), ttl=20.0)
            await clock.advance(1)
        connection = sqlite3.connect(tmp_path / "seen.db")
        try:
            (rows,) = connection.execute("SELECT count(*) FROM unimsg_keys").fetchone()
        finally:
            connection.close()
    assert rows < 2_500, "of 3,000 that were made 1,000 count"


# ---------------------------------------------------------------- a log


async def test_a_long_handler_on_a_log_keeps_its_claim() -> None:
    """Promises 8 and 24, cases 6 and 27: no lease is extended there, and for all that nobody else gets the key."""
    store, ran = unimsg.store("memory://"), list[int]()

    @unimsg.idempotent(store, key=lambda delivery: delivery.body["k"], scope="job")
    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        ran.append(delivery.attempt)
        await asyncio.sleep(200)

    states: set[str] = set()

    async def watch() -> None:
        while True:
            await asyncio.sleep(7)
            (answer,) = await store.claim([Ask("g/job", "1")], lock=30.0, ttl=WEEK)
            assert isinstance(answer, Answer)
            states.add(answer.state)

    async with ManualClock(auto=True):
        with installed():
            async with unimsg.connect("loglike://") as client:
                await client.publish("orders", {"k": "1"})
                watching = asyncio.create_task(watch())
                health = await client.subscriber("orders", group="g").run_until_idle(handle)
                watching.cancel()
    assert ran == [1]
    assert states == {"in_progress"}
    assert health.counters["acked"] == 1
    assert health.counters["lost"] == 0
