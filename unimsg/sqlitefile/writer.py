"""Writer: the one thread that has the connection, and its group commits.

Law: knows jobs, transactions and threads; nothing of what is written. While one transaction is written, jobs gather
for the next: concurrent users share a commit. A job that fails takes back its own work only.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from unimsg.errors import ClosedError, Error
from unimsg.sqlitefile.place import Place

R = TypeVar("R")
Kind = Literal["peek", "light", "solid"]
NAME = "sqlite"
TOGETHER = 200
"""Jobs of one transaction at most."""


class Job:
    """One function to run in a transaction, and who waits for its result."""

    __slots__ = ("error", "future", "kind", "loop", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], *, kind: Kind) -> None:
        self.work = work
        self.kind = kind
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def deliver(self) -> None:
        """Hand over what came of it; on its own loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs jobs on one connection, many in one transaction.

    Args:
        place: where the connection comes from, and how a transaction begins; used on the thread only.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._jobs: deque[Job] = deque()
        self._work = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._level = place.synchronous

    async def open(self) -> None:
        """Start the thread and open the file; raises what that raises."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._closing = False
        self._thread = threading.Thread(
            target=self._run, args=(loop, opened), name="unimsg.sqlite", daemon=True
        )
        self._thread.start()
        await asyncio.shield(opened)

    def peek(self, work: Callable[[sqlite3.Connection], R]) -> asyncio.Future[R]:
        """Run `work`, which only reads one thing, without a transaction."""
        return self._add(Job(work, kind="peek"))

    def submit(self, work: Callable[[sqlite3.Connection], R], *, solid: bool = True) -> asyncio.Future[R]:
        """Run `work` in a transaction; the future has its result when that is committed.

        Args:
            work: may raise; its own changes are then taken back.
            solid: whether the result must survive a loss of power, as `synchronous` says; a lease need not.
        """
        return self._add(Job(work, kind="solid" if solid else "light"))

    def _add(self, job: Job) -> asyncio.Future[Any]:
        with self._work:
            if self._closing or self._thread is None:
                raise ClosedError("the file is closed", backend=NAME)
            self._jobs.append(job)
            if len(self._jobs) == 1:
                self._work.notify()
        return job.future

    async def aclose(self) -> None:
        """Finish what was submitted and close the file."""
        thread = self._thread
        if thread is None:
            return
        with self._work:
            self._closing = True
            self._work.notify()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        self._thread = None

    # ------------------------------------------------------------ on the thread

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._place.connect()
        except BaseException as error:  # noqa: BLE001 - handed to who opened
            with self._work:
                self._thread = None
            _call(loop, _fail, opened, error)
            return
        _call(loop, _succeed, opened)
        try:
            while jobs := self._next():
                self._work_off(connection, jobs)
                _deliver(jobs)
        finally:
            connection.close()
            self._place.close()

    def _next(self) -> list[Job]:
        with self._work:
            while not self._jobs and not self._closing:
                self._work.wait()
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), TOGETHER))]

    def _work_off(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        for job in jobs:
            if job.kind == "peek":
                _attempt(connection, job)
        writes = [job for job in jobs if job.kind != "peek" and not job.future.cancelled()]
        if not writes:
            return
        try:
            self._wait_for(connection, solid=any(job.kind == "solid" for job in writes))
            self._place.begin(connection)
        except (sqlite3.Error, Error) as error:
            _give_up(connection, writes, error)
            return
        try:
            for job in writes:
                _within_savepoint(connection, job)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _give_up(connection, writes, error)

    def _wait_for(self, connection: sqlite3.Connection, *, solid: bool) -> None:
        most = self._place.synchronous
        level = most if solid or most == "OFF" else "NORMAL"
        if level != self._level:
            connection.execute(f"PRAGMA synchronous={level}")
            self._level = level


def _give_up(connection: sqlite3.Connection, jobs: list[Job], error: Exception) -> None:
    """Nothing of this transaction is to last; who failed for a reason of its own keeps that."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # gone already: a full disk takes the transaction with it
            connection.execute("ROLLBACK")
    for job in jobs:
        job.error = job.error or error


def _within_savepoint(connection: sqlite3.Connection, job: Job) -> None:
    """Run one job; raises when the whole transaction is gone (a full disk, a broken file)."""
    connection.execute("SAVEPOINT job")
    _attempt(connection, job)
    if job.error is not None:
        if isinstance(job.error, sqlite3.Error) and not connection.in_transaction:
            raise job.error
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")


def _attempt(connection: sqlite3.Connection, job: Job) -> None:
    try:
        job.result = job.work(connection)
    except BaseException as error:  # noqa: BLE001 - handed to who submitted
        job.error = error


def _deliver(jobs: list[Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, theirs in by_loop.items():
        _call(loop, _deliver_all, theirs)


def _deliver_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.deliver()


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:  # noqa: ANN401 - by function
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(function, *args)
