"""Held: deliveries that wait in memory until they are due, their leases kept.

Law: a heap and one timer; it knows no policy.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

from unimsg.consuming.delivery import HELD, Delivery

AnyDelivery = Delivery[Any]


class Held:
    """Calls `due` with each delivery when its time has come."""

    __slots__ = ("_count", "_due", "_heap", "_instead", "_loop", "_timer")

    def __init__(self, due: Callable[[AnyDelivery], None]) -> None:
        self._due = due
        self._heap: list[tuple[float, int, AnyDelivery]] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0
        self._instead: list[AnyDelivery] | None = None

    def __len__(self) -> int:
        return sum(1 for _, _, delivery in self._heap if delivery._state == HELD)

    def hold(self, delivery: AnyDelivery, delay: float) -> None:
        """Keep it for `delay` seconds."""
        delivery._state = HELD
        if self._instead is not None:
            self._instead.append(delivery)
            return
        self._count += 1
        heapq.heappush(self._heap, (self._loop.time() + delay, self._count, delivery))
        if self._heap[0][2] is delivery:
            self._arm()

    def divert(self, to: list[AnyDelivery] | None) -> None:
        """Put what would be held there instead, since nobody will run it again; None: hold as before."""
        self._instead = to

    def remove(self, gone: Callable[[AnyDelivery], bool]) -> list[AnyDelivery]:
        """Take out all for which `gone` holds, and return them."""
        out = [
            d for _, _, d in sorted(self._heap, key=lambda item: item[2]._seq) if d._state == HELD and gone(d)
        ]
        removed = set(out)
        self._heap = [item for item in self._heap if item[2] not in removed]
        heapq.heapify(self._heap)
        self._arm()
        return out

    def beyond(self, when: float) -> set[AnyDelivery]:
        """Return those that are due after `when`."""
        return {delivery for due, _, delivery in self._heap if due > when}

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._loop.call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            delivery = heapq.heappop(self._heap)[2]
            if delivery._state == HELD:  # else it was lost meanwhile
                self._due(delivery)
        self._arm()
