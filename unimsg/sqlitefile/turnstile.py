"""Turnstile: who may ask for the file next, among the processes that write to it.

Law: an empty file beside the database, locked while its holder waits for the database, and the waiting itself. SQLite
keeps no line: whoever has just written may begin again at once, while one that waits sleeps up to 0.1 s between two
looks (`sqliteDefaultBusyCallback` in https://sqlite.org/src, 2026-11); of six busy processes one was seen to wait two
seconds for transactions of 30 ms. Here one that has just written queues again behind the one that waits. A process
that dies lets go. Where nothing can be locked it works without, as SQLite does.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # and whoever uses it looks

PATIENCE = 15.0
"""Seconds that a transaction waits for the file while others write to it."""
QUEUED = 1.0
"""Seconds that it waits for the turnstile at most: a process that was suspended may hold it."""
LOOK = 0.001
"""Seconds between two looks."""


class Turnstile:
    """The way to one database file.

    Args:
        path: of the database; its lock file has `-turn` at the end.
    """

    def __init__(self, path: str) -> None:
        self._path = path + "-turn"
        self._file: int | None = None

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that may write, in turn.

        Raises:
            sqlite3.OperationalError: the file was locked all the time, or cannot be written at all.
        """
        deadline = time.monotonic() + PATIENCE
        connection.execute("PRAGMA busy_timeout=0")
        try:
            with self._turn():
                while not _begun(connection, last=time.monotonic() >= deadline):
                    time.sleep(LOOK)
        finally:
            connection.execute(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}")

    def close(self) -> None:
        """Let go of the lock file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the turnstile, if it can be had in time."""
        if fcntl is None:
            yield
            return
        held = self._enter()
        try:
            yield
        finally:
            if held and self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _enter(self) -> bool:
        until = time.monotonic() + QUEUED
        while True:
            try:
                if self._file is None:
                    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # pyright: ignore[reportOptionalMemberAccess]  # the caller looks
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(LOOK)
            except OSError:  # a folder that is read-only, a file system without locks
                return False
            else:
                return True


def _begun(connection: sqlite3.Connection, *, last: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
