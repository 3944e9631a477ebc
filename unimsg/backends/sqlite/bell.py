"""Bell: who waits for a message in this process, and how they learn of what other processes did.

Law: futures and one timer; no SQL beyond SQLite's own counter of foreign commits. While anyone waits, the counter is
read at an interval that grows while nothing happens, within bounds.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict, deque

from unimsg.errors import Error
from unimsg.sqlitefile.writer import Writer

SHORTEST, LONGEST = 0.005, 0.25
"""Seconds between two looks at the counter."""


class Bell:
    """Wakes receivers, by the name of what they wait on."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[object, deque[asyncio.Future[None]]] = {}
        self._rung: defaultdict[object, int] = defaultdict(int)
        self._timer: asyncio.TimerHandle | None = None
        self._interval = SHORTEST
        self._version = -1

    def rung(self, place: object) -> int:
        """Return how often it has rung here: read before one looks, so that no ring falls between look and wait."""
        return self._rung[place]

    async def wait(self, place: object, until: float, rung: int) -> None:
        """Return when it has rung here more than `rung` times, or at `until`.

        The wake of one that is cancelled goes to the next.
        """
        if self._rung[place] != rung:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        line = self._waiting.setdefault(place, deque())
        line.append(future)
        timer = self._loop.call_at(until, _set, future)
        if self._timer is None:
            self._look_later()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.ring(place)
            raise
        finally:
            timer.cancel()
            if future in line:
                line.remove(future)
            if not line:
                self._waiting.pop(place, None)

    def ring(self, place: object, *, everyone: bool = False) -> None:
        """Wake who waits longest in a place, or all."""
        self._rung[place] += 1
        line = self._waiting.get(place)
        while line:
            future = line.popleft()
            if not future.done():
                future.set_result(None)
                if not everyone:
                    return

    def ring_all(self, of: object, *, everyone: bool = False) -> None:
        """Wake one in every place of a destination, or all."""
        for place in [place for place in self._rung if isinstance(place, tuple) and place[0] == of]:
            self.ring(place, everyone=everyone)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    # ------------------------------------------------------------ other processes

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            self._interval = SHORTEST
            return
        try:
            self._writer.peek(_version).add_done_callback(self._looked)
        except Error:
            return  # closed

    def _looked(self, future: asyncio.Future[int]) -> None:
        failed = future.cancelled() or future.exception() is not None
        version = -1 if failed else future.result()
        if version != self._version:
            self._version, self._interval = version, SHORTEST
            for place in list(self._waiting):
                self.ring(place, everyone=True)
        else:
            self._interval = min(self._interval * 1.5, LONGEST)
        if self._timer is None:
            self._look_later()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _version(db: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has committed (https://sqlite.org/pragma.html)."""
    found: int = db.execute("PRAGMA data_version").fetchone()[0]
    return found
