"""The turnstile of sqlite: processes that write to one file take turns; one that is stopped holds up nobody."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from unimsg.sqlitefile import turnstile
from unimsg.sqlitefile.turnstile import Turnstile

Connect = Callable[[], sqlite3.Connection]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "messages.db"


@pytest.fixture
def connect(path: Path) -> Iterator[Connect]:
    """Give what opens one more connection, as another process would have it."""
    with ExitStack() as stack:

        def opened() -> sqlite3.Connection:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute("PRAGMA journal_mode=WAL")
            return connection

        yield opened


def test_who_has_just_written_queues_behind_who_waits(path: Path, connect: Connect) -> None:
    """Fairness: without a line the first one back gets the file again, and the other may wait for ever."""
    hog, other = connect(), connect()
    ways = Turnstile(str(path)), Turnstile(str(path))
    order: list[str] = []
    ways[0].begin(hog)

    def wait_and_write() -> None:
        ways[1].begin(other)
        order.append("who waited")
        other.execute("COMMIT")

    waiting = threading.Thread(target=wait_and_write)
    waiting.start()
    while not held(path):
        time.sleep(0)
    hog.execute("COMMIT")
    ways[0].begin(hog)
    order.append("who had written")
    hog.execute("COMMIT")
    waiting.join()

    assert order == ["who waited", "who had written"]


def held(path: Path) -> bool:
    """Whether somebody stands in the turnstile."""
    file = os.open(f"{path}-turn", os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def test_the_turnstile_is_free_while_somebody_writes(path: Path, connect: Connect) -> None:
    """It is held while one waits, not while one works: the next in line can line up."""
    connection, way = connect(), Turnstile(str(path))
    way.begin(connection)

    assert not held(path)


def test_one_that_stands_still_in_the_turnstile_holds_up_nobody(
    path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process keeps its locks: after a while the others go without a line."""
    monkeypatch.setattr(turnstile, "QUEUED", 0.01)
    file = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    connection = connect()
    Turnstile(str(path)).begin(connection)

    assert connection.in_transaction
    os.close(file)


def test_a_file_that_stays_locked_is_given_up(
    path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite says is what its caller gets; and the turnstile is free again."""
    monkeypatch.setattr(turnstile, "PATIENCE", 0.01)
    hog, other = connect(), connect()
    hog.execute("BEGIN IMMEDIATE")

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Turnstile(str(path)).begin(other)
    assert not held(path)


def test_where_nothing_can_be_locked_it_works_without(
    path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock file that cannot be made, a system that has no such locks."""
    for name, broken in (("os.open", refuse), ("fcntl", None)):
        monkeypatch.setattr(f"{turnstile.__name__}.{name}", broken)
        connection, way = connect(), Turnstile(str(path))
        way.begin(connection)
        assert connection.in_transaction
        way.close()
        connection.execute("ROLLBACK")


def refuse(*_: object) -> int:
    """A folder that may not be written to."""
    raise PermissionError


def test_the_lock_file_is_for_the_owner_only(path: Path, connect: Connect) -> None:
    """As everything beside the database."""
    way = Turnstile(str(path))
    way.begin(connect())

    assert Path(f"{path}-turn").stat().st_mode & 0o777 == 0o600
    way.close()
