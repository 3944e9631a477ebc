"""Clock: one time for all processes on the file, that a test can still turn.

Law: the wall clock, since leases are shared between processes; where the loop's own clock was replaced, that moves it.
"""

from __future__ import annotations

import asyncio
from time import monotonic, time

REAL = 0.5
"""Seconds by which the clock of a loop may differ from the system's and still be it."""


class Clock:
    """Seconds since the epoch, as the loop of this process sees them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wall = time() - self._loop.time()

    def now(self) -> float:
        """Return the time; a process that was suspended is right again at once."""
        moment = self._loop.time()
        if abs(moment - monotonic()) < REAL and "time" not in vars(self._loop):
            self._wall = time() - moment
        return moment + self._wall

    def on_loop(self, wall: float) -> float:
        """Return the `loop.time()` of a moment."""
        return wall - self._wall
