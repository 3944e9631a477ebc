"""Lanes: which delivery may run next, so that two of one lane never run at once and lanes take turns.

Law: a pure data structure; it knows neither messages nor backends, does no I/O and has no clock. A lane is a deque, one
object and no more, since with many keys each message has its own; a lane with work stands once in the ready queue; a
worker takes one delivery of it and, when that is done, the lane goes to the end of the queue. What has no lane stands
in the ready queue by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from typing import Any, final

from unimsg.consuming.delivery import Delivery
from unimsg.spi import Received

AnyDelivery = Delivery[Any]


@final
class Lane(deque[AnyDelivery]):
    """What must run one after the other: waiting deliveries, oldest first; it is known by its key.

    Attributes:
        key: what names it.
        out: deliveries taken and not done; the lane is ready only when there are none.
        held: how many of its first deliveries wait for a retry; nothing else of it may run.
    """

    __slots__ = ("held", "key", "out")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.out = 0
        self.held = 0


class Lanes:
    """All lanes of one consuming loop."""

    __slots__ = ("_lanes", "_ready", "waiting")

    def __init__(self) -> None:
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: deque[AnyDelivery | Lane] = deque()
        self.waiting = 0
        """Deliveries that wait in lanes or for a worker; those held for a retry are not among them."""

    @property
    def ready(self) -> int:
        """How many workers could start now."""
        return len(self._ready)

    def put(self, delivery: AnyDelivery, key: Hashable) -> int:
        """Append to the lane `key` (None: none) and return how many that lane now has waiting."""
        self.waiting += 1
        if key is None:
            self._ready.append(delivery)
            return 1
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = lane = Lane(key)
        delivery._lane = lane
        lane.append(delivery)
        waiting = len(lane)
        if waiting == 1 and not lane.out and not lane.held:
            self._ready.append(lane)
        return waiting

    def take(self) -> AnyDelivery | None:
        """Return the next delivery that may run, or None."""
        ready = self._ready
        if not ready:
            return None
        entry = ready.popleft()
        self.waiting -= 1
        if type(entry) is Lane:
            entry.out += 1
            return entry.popleft()
        return entry

    def take_more(self, delivery: AnyDelivery) -> AnyDelivery | None:
        """Return the next of the lane of a delivery that is out, for a batch that takes several in order."""
        lane = delivery._lane
        if not lane or lane.held:
            return None
        self.waiting -= 1
        lane.out += 1
        return lane.popleft()

    def done(self, delivery: AnyDelivery) -> None:
        """The delivery has left for good: its lane may go on."""
        lane = delivery._lane
        if lane is None:
            return
        lane.out -= 1
        self._turn(lane)

    def hold(self, delivery: AnyDelivery) -> None:
        """The delivery, which is out, waits for a retry; its lane waits with it."""
        lane = delivery._lane
        if lane is not None:
            lane.out -= 1
            lane.held += 1

    def put_back(self, delivery: AnyDelivery) -> None:
        """A held delivery is due: it stands in its lane again where it stood."""
        lane = delivery._lane
        if lane is not None:
            lane.held -= 1
        self._insert(delivery, lane)

    def untake(self, delivery: AnyDelivery) -> None:
        """A delivery that was taken did not start: it stands in its lane again where it stood."""
        lane = delivery._lane
        if lane is not None:
            lane.out -= 1
        self._insert(delivery, lane)

    def forget_held(self, delivery: AnyDelivery) -> None:
        """A held delivery is gone: its lane may go on."""
        lane = delivery._lane
        if lane is not None:
            lane.held -= 1
            self._turn(lane)

    def remove(self, gone: Callable[[AnyDelivery], bool]) -> list[AnyDelivery]:
        """Take out all waiting deliveries for which `gone` holds, in order within each lane, and return them."""
        removed: list[AnyDelivery] = []
        kept: deque[AnyDelivery | Lane] = deque()
        for entry in self._ready:
            if isinstance(entry, Lane):
                continue
            if gone(entry):
                removed.append(entry)
            else:
                kept.append(entry)
        for lane in list(self._lanes.values()):
            staying: list[AnyDelivery] = []
            for delivery in lane:
                (removed if gone(delivery) else staying).append(delivery)
            lane.clear()
            lane.extend(staying)
            if staying and not lane.out and not lane.held:
                kept.append(lane)
            elif not staying and not lane.out and not lane.held:
                del self._lanes[lane.key]
        self._ready = kept
        self.waiting -= len(removed)
        return removed

    def waiting_in(self, key: Hashable) -> int:
        """How many wait in one lane."""
        lane = self._lanes.get(key)
        return len(lane) if lane is not None else 0

    def __iter__(self) -> Iterator[AnyDelivery]:
        """All waiting deliveries."""
        for entry in self._ready:
            if not isinstance(entry, Lane):
                yield entry
        for lane in self._lanes.values():
            yield from lane

    def _insert(self, delivery: AnyDelivery, lane: Lane | None) -> None:
        self.waiting += 1
        if lane is None:
            self._ready.appendleft(delivery)
            return
        place = 0
        while place < len(lane) and lane[place]._seq < delivery._seq:
            place += 1
        lane.insert(place, delivery)
        if not lane.out and not lane.held:  # it was out or held until now, so it cannot be in the ready queue
            self._ready.append(lane)

    def _turn(self, lane: Lane) -> None:
        if lane.out or lane.held:
            return
        if lane:
            self._ready.append(lane)
        elif self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]


def lane_of(order: str) -> Callable[[Received], Hashable]:
    """Return what names the lane of a message, for the order that was asked for."""
    if order == "key":
        return attrgetter("lane")
    if order == "partition":
        return lambda received: received.assignment or received.lane
    if order == "total":
        return lambda _received: True
    return lambda _received: None
