"""Breaker: stops taking in work while most of it fails, since it would only burn attempts.

Law: pure; the time comes in as an argument. Closed, open for a while, then half-open: the next result decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FAILURES = 0.5
"""The share of failures at which it opens."""
CALLS = 20
"""Results below which it never opens."""
WINDOW = 60.0
"""Seconds after which results are forgotten."""
OPEN_FOR = 30.0
"""Seconds it stays open."""


class Breaker:
    """Opens when at least half of at least twenty results within a minute are failures.

    Args:
        open_for: seconds it stays open.
    """

    __slots__ = ("_failed", "_opened", "_probing", "_succeeded", "_window", "open_for")

    def __init__(self, *, open_for: float = OPEN_FOR) -> None:
        self.open_for = open_for
        self._succeeded = self._failed = 0
        self._window = 0.0
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """Which of the three it is, as of the last call."""
        if self._probing:
            return "half-open"
        return "closed" if self._opened is None else "open"

    def record(
        self, *, ok: bool, now: float, count: int = 1, uncounted: Callable[[], int] = lambda: 0
    ) -> None:
        """So many executions ended well or badly.

        Args:
            ok: which of the two.
            now: the time.
            count: how many.
            uncounted: asked before it opens: how many have ended well that were not recorded yet; they came first.
        """
        if self._probing:
            self._probing = False
            self._succeeded = self._failed = 0
            if not ok and not uncounted():
                self.trip(now)
                return
        if now - self._window > WINDOW:
            self._window, self._succeeded, self._failed = now, 0, 0
        if ok:
            self._succeeded += count
            return
        self._failed += count
        seen = self._succeeded + self._failed
        if self._opened is None and seen >= CALLS and self._failed >= FAILURES * seen:
            seen += uncounted()
            if self._failed >= FAILURES * seen:
                self.trip(now)

    def trip(self, now: float) -> None:
        """Open now."""
        self._opened, self._probing = now, False

    def allows(self, now: float) -> bool:
        """Whether new work may be taken in; after `open_for` seconds it may, and its first result decides."""
        if self._opened is None:
            return True
        if now - self._opened < self.open_for:
            return False
        self._opened, self._probing = None, True
        return True
