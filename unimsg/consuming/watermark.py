"""Watermark: how far an assignment of a log is done without a gap.

Law: pure; no I/O, no clock. Only what was received is tracked, so holes that the service itself leaves (compaction,
transaction markers) are no gaps. A delivery that was *dropped* is not *done*: it stops the watermark for good.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from unimsg.consuming.delivery import DONE, RUNNING, Delivery

AnyDelivery = Delivery[Any]


class Watermark:
    """The deliveries of one assignment in the order in which they came, the done prefix cut off.

    Attributes:
        token: of the last delivery of the done prefix; None while there is none.
        moved: `token` has moved since it was last taken.
    """

    __slots__ = ("_open", "moved", "token")

    def __init__(self) -> None:
        self._open: deque[AnyDelivery] = deque()
        self.token: Any = None
        self.moved = False

    @property
    def span(self) -> int:
        """How many deliveries stand above the watermark, done or not: what a crash would replay."""
        return len(self._open)

    def add(self, delivery: AnyDelivery) -> int:
        """A delivery came; returns the span."""
        self._open.append(delivery)
        return len(self._open)

    def advance(self) -> None:
        """Move over everything that is done; call it after a delivery became so."""
        still_open = self._open
        last = None
        while still_open and still_open[0]._state == DONE:
            last = still_open.popleft()
        if last is not None:
            self.token = last._received.token
            self.moved = True

    def take(self) -> Any:  # noqa: ANN401 - the backend's own token
        """Return the token to commit, once for each move; None: nothing new."""
        if not self.moved:
            return None
        self.moved = False
        return self.token

    def below_highest_begun(self) -> set[AnyDelivery]:
        """Return what has not begun though something after it is done or runs: finishing these saves a replay."""
        unfinished: set[AnyDelivery] = set()
        seen = False
        for delivery in reversed(self._open):
            if delivery._state in (DONE, RUNNING):
                seen = True
            elif seen:
                unfinished.add(delivery)
        return unfinished
