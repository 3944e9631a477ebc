"""Budget: how many retries a consuming loop may afford, so that a failing dependency is not hit harder than before.

Law: pure; the time comes in as an argument. A token bucket: successes and time put in, a retry takes out.
"""

from __future__ import annotations

RATIO = 0.1
"""Retries earned by a success."""
FLOOR = 1.0
"""Retries earned by a second, whatever else happens."""
BURST = 500.0
"""Retries that can be saved up: a flood of poisoned messages still gets to its dead letters."""


class Budget:
    """Retries up to a tenth of the successes, one a second at least."""

    __slots__ = ("_burst", "_last", "_tokens")

    def __init__(self, burst: float = BURST) -> None:
        self._burst = burst
        self._tokens = burst
        self._last: float | None = None

    def success(self, count: int = 1) -> None:
        """So many executions succeeded."""
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + count * RATIO)

    def spend(self, now: float) -> bool:
        """Take one retry; False: there is none left, wait instead."""
        if self._last is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * FLOOR)
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
