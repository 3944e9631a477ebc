"""What may happen to the file of sqlite while it is in use: busy, full, gone, killed, forked; and what is kept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.unit.backends.harness import NoEvents, bodies, message, settle
from unimsg import registry
from unimsg.errors import NotSentError, UnavailableError
from unimsg.sqlitefile import turnstile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "messages.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[Any]:
    """An open backend, in real time."""
    found = build(path)
    await found.open()
    yield found
    await found.aclose()


@pytest.fixture
def stranger(path: Path, backend: Any) -> Iterator[sqlite3.Connection]:
    """Another program that writes to the file, and knows nothing of turns."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def build(path: Path, **options: Any) -> Any:
    """Return a backend that is not open yet."""
    plugin = registry.plugin("sqlite")
    return plugin.build(plugin.Options(path=str(path), **options))


async def everything(backend: Any, group: str = "late") -> list[str]:
    """Return what a new group gets, and ack it."""
    receiver = await backend.open_receiver("orders", group, "oldest", NoEvents(), 10_000)
    found: list[str] = []
    while batch := await receiver.receive_batch(1000, 0):
        found += bodies(batch)
        assert await settle(receiver, batch) == []
    return found


async def until_it_waits(path: Path) -> None:
    """Return when somebody stands in the turnstile."""
    file = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT)
    try:
        while True:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
            await asyncio.sleep(0)
    except BlockingIOError:
        return
    finally:
        os.close(file)


# ---------------------------------------------------------------- busy


async def test_a_file_that_another_program_holds_is_waited_for(
    path: Path, backend: Any, stranger: sqlite3.Connection
) -> None:
    """Busy is no error: the event loop goes on, and what waited is written when the file is free."""
    sender = await backend.open_sender("orders")
    stranger.execute("BEGIN IMMEDIATE")
    sending = asyncio.create_task(sender.send_batch([message("a")], 0))
    await until_it_waits(path)
    assert not sending.done()
    stranger.execute("COMMIT")
    await sending

    assert await everything(backend) == ["a"]


async def test_opening_waits_for_nobody_who_writes(
    path: Path, backend: Any, stranger: sqlite3.Connection
) -> None:
    """A worker that is restarted while others are busy comes up: what it needs to know it only reads."""
    stranger.execute("BEGIN IMMEDIATE")
    other = build(path)
    await other.open()
    await other.probe()
    stranger.execute("COMMIT")
    await other.aclose()


async def test_a_file_that_stays_busy_is_told_and_nothing_is_half_done(
    backend: Any, stranger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: certainly not published; a receive and a settlement may be tried again."""
    monkeypatch.setattr(turnstile, "PATIENCE", 0.01)
    sender = await backend.open_sender("orders")
    receiver = await backend.open_receiver("orders", "g", "oldest", NoEvents(), 10)
    await sender.send_batch([message("a")], 0)
    batch = await receiver.receive_batch(1, 0)
    stranger.execute("BEGIN IMMEDIATE")

    with pytest.raises(NotSentError, match="nothing was written: database is locked"):
        await sender.send_batch([message("b")], 0)
    for work in (receiver.receive_batch(1, 0), settle(receiver, batch)):
        with pytest.raises(sqlite3.OperationalError) as caught:
            await work
        ours = backend.translate(caught.value)
        assert isinstance(ours, UnavailableError)
        assert ours.retryable
    stranger.execute("COMMIT")
    assert await settle(receiver, batch) == []
    assert await everything(backend) == ["a"]


# ---------------------------------------------------------------- commits


async def hold(backend: Any) -> threading.Event:
    """Keep the writer's thread until the event is set."""
    free, held = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(held.set)
        assert free.wait(30)

    backend.writer.peek(wait)
    await held.wait()
    return free


async def test_what_comes_while_one_commit_is_written_shares_the_next(backend: Any) -> None:
    """Group commit: twenty concurrent senders, one transaction."""
    statements: Counter[str] = Counter()
    sender = await backend.open_sender("orders")
    await backend.writer.peek(lambda db: db.set_trace_callback(lambda text: statements.update([text])))
    free = await hold(backend)
    sends = [asyncio.create_task(sender.send_batch([message(str(n))], 0)) for n in range(20)]
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(*sends)

    assert statements["COMMIT"] == 1
    assert await everything(backend) == [str(n) for n in range(20)]


async def test_a_job_that_fails_takes_back_its_own_work_only(backend: Any) -> None:
    """Neighbours in one transaction do not know each other."""
    sender = await backend.open_sender("orders")

    def fail(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM unimsg_messages")
        raise ZeroDivisionError

    free = await hold(backend)
    before = asyncio.create_task(sender.send_batch([message("a")], 0))
    await asyncio.sleep(0)
    failing = backend.writer.submit(fail)
    after = asyncio.create_task(sender.send_batch([message("b")], 0))
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(before, after)

    with pytest.raises(ZeroDivisionError):
        await failing
    assert await everything(backend) == ["a", "b"]


@pytest.mark.parametrize(("synchronous", "solid", "light"), [("FULL", 2, 1), ("NORMAL", 1, 1), ("OFF", 0, 0)])
async def test_a_confirmation_survives_what_the_option_says(
    path: Path, synchronous: str, solid: int, light: int
) -> None:
    """Durable by default: messages and acks are flushed to the disk; a lease need not be."""
    backend = build(path, synchronous=synchronous)
    await backend.open()
    try:
        levels = [
            await backend.writer.submit(
                lambda db: db.execute("PRAGMA synchronous").fetchone()[0], solid=must_last
            )
            for must_last in (True, False, True)
        ]
    finally:
        await backend.aclose()

    assert levels == [solid, light, solid]
    assert build(path).options.synchronous == "FULL"


# ---------------------------------------------------------------- a full disk


async def test_a_full_disk_is_told_and_loses_nothing(backend: Any) -> None:
    """Promise 2: what was confirmed is there, what was refused is not, and all goes on when there is room again."""
    sender = await backend.open_sender("orders")
    pages = await backend.writer.peek(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await limit(backend, pages + 40)
    confirmed: list[str] = []

    async def fill() -> None:
        for first in range(0, 10_000, 10):
            numbers = [f"{n:04}" for n in range(first, first + 10)]
            await sender.send_batch([message(number + "x" * 996) for number in numbers], 0)
            confirmed.extend(numbers)

    with pytest.raises(NotSentError, match="nothing was written: database or disk is full"):
        await fill()
    assert confirmed
    await limit(backend, pages * 100)
    await sender.send_batch([message("more")], 0)

    assert [body[:4] for body in await everything(backend)] == [*confirmed, "more"]


async def limit(backend: Any, pages: int) -> None:
    """Let the file have so many pages: beyond, SQLite does what it does on a full disk."""
    await backend.writer.peek(lambda db: db.execute(f"PRAGMA max_page_count={pages}").fetchone())


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has the file open, to its end."""
    return subprocess.run(
        [sys.executable, "-c", dedent(program), *args], capture_output=True, text=True, check=False
    )


FILLS_ITS_QUOTA = """
    import asyncio, resource, sys, unimsg
    async def main():
        async with unimsg.connect(f"sqlite:///{sys.argv[1]}") as client:
            await client.publish("orders", "first")
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
            try:
                for n in range(1000):
                    await client.publish("orders", f"{n:04}" + "x" * 10_000, timeout=0.2)
                    print(n, flush=True)
            except unimsg.PublishError as error:
                print(type(error).__name__, flush=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await client.publish("orders", "last")
    asyncio.run(main())
"""


async def test_a_quota_is_told_and_loses_nothing(path: Path) -> None:
    """The same by the system's own refusal to let a file grow."""
    done = run(FILLS_ITS_QUOTA, str(path))
    *confirmed, end = done.stdout.splitlines()
    backend = build(path)
    await backend.open()
    found = [body.strip('"')[:5].rstrip("x") for body in await everything(backend)]
    await backend.aclose()

    assert end == "NotSentError", done.stderr
    assert found == ["first", *(f"{int(n):04}" for n in confirmed), "last"]
    assert confirmed


# ---------------------------------------------------------------- gone


async def test_a_file_that_is_deleted_while_in_use_is_told(path: Path, backend: Any) -> None:
    """What would be written to it, no other process would find: refused, until it is back."""
    sender = await backend.open_sender("orders")
    await sender.send_batch([message("a")], 0)
    moved = str(path) + ".moved"
    os.rename(path, moved)  # noqa: PTH104 - no waiting for a disk in this test
    with pytest.raises(NotSentError, match="was deleted or replaced while it was in use"):
        await sender.send_batch([message("b")], 0)
    os.rename(moved, path)  # noqa: PTH104 - as above
    await sender.send_batch([message("c")], 0)

    assert await everything(backend) == ["a", "c"]


async def test_damage_is_named_with_its_cure(backend: Any) -> None:
    """Corrupt while in use: nothing can be done here, and the sentence says who can."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT_INDEX

    assert "restore it, see https://sqlite.org/recovery.html" in str(backend.translate(error))
    assert backend.translate(ValueError()) is None


async def test_only_a_failed_flush_leaves_the_outcome_open(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: after a failed fsync the frames may be found by the next start; that is told as unknown."""
    sender = await backend.open_sender("orders")
    error = sqlite3.OperationalError("disk I/O error")
    monkeypatch.setattr(backend.writer, "submit", lambda _: failed(error))
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(sqlite3.OperationalError):
        await sender.send_batch([message("a")], 0)
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE

    with pytest.raises(NotSentError):
        await sender.send_batch([message("a")], 0)


async def failed(error: Exception) -> None:
    raise error


# ---------------------------------------------------------------- processes

DIES = """
    import asyncio, os, signal, sys, unimsg
    async def main():
        async with unimsg.connect(f"sqlite:///{sys.argv[1]}") as client:
            for n in range(50):
                await client.publish("orders", n)
                print(n, flush=True)
            await asyncio.gather(*(client.publish("orders", n) for n in range(50, 60)), die())
    async def die():
        os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(main())
"""


async def test_what_was_confirmed_survives_a_kill(path: Path) -> None:
    """Promise 2: in the middle of a commit; what had no confirmation is there whole or not at all."""
    confirmed = run(DIES, str(path)).stdout.split()
    backend = build(path)
    await backend.open()
    found = await everything(backend)
    await backend.aclose()

    assert confirmed == [str(n) for n in range(50)]
    assert found[:50] == confirmed


FORKS = """
    import asyncio, os, sys, unimsg
    url = f"sqlite:///{sys.argv[1]}"
    async def publish(body):
        async with unimsg.connect(url) as client:
            await client.publish("orders", body)
    def fork(name):
        child = os.fork()
        if not child:
            try:
                asyncio.run(publish(name))
            except unimsg.Error as error:
                print(type(error).__name__, error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    async def main():
        async with unimsg.connect(url) as client:
            await client.publish("orders", "before")
            fork("refused")
            await client.publish("orders", "after")
    asyncio.run(main())
    fork("child")
"""


async def test_a_forked_process_is_told_to_connect_later(path: Path) -> None:
    """SQLite's locks do not survive a fork: refused while the parent has the file open, fine when it has not."""
    done = run(FORKS, str(path))
    backend = build(path)
    await backend.open()
    found = await everything(backend)
    await backend.aclose()

    assert done.stdout.startswith("ConfigError"), done
    assert "fork first and connect then" in done.stdout
    assert found == ['"before"', '"after"', '"child"']


STARTS = """
    import asyncio, sys, unimsg
    async def main():
        async with unimsg.connect(f"sqlite:///{sys.argv[1]}") as client:
            await client.publish("orders", sys.argv[2])
    asyncio.run(main())
"""


async def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    """Whoever comes first makes it; the others find it made, or wait."""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", dedent(STARTS), str(path), str(n))
        for n in range(6)
    ]
    codes = [await process.wait() for process in processes]
    backend = build(path)
    await backend.open()
    found = await everything(backend)
    await backend.aclose()

    assert codes == [0] * 6
    assert sorted(found) == [f'"{n}"' for n in range(6)]
