"""The service side of `pushlike`: one queue, the consumers that wait for it, and the link of each.

Law: as `push`; the first consumer is the active one, the next takes over when it goes.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Sequence
from itertools import count

from unimsg.errors import AssignmentLostError, ClosedError, ConnectionLostError, Error
from unimsg.message import WireMessage
from unimsg.spi import Assignment, Events, Received, ReceiveLimits, Settlement
from unimsg.testing.shapes.common import Bell

NAME = "pushlike"
_channels = count(1)


class Item:
    """A message in a queue; `place` is where it belongs: what comes back goes where it was."""

    __slots__ = ("attempts", "deliveries", "expires", "first_failed", "message", "place")

    def __init__(self, message: WireMessage, place: tuple[int, int], expires: float) -> None:
        self.message = message
        self.place = place
        self.expires = expires
        self.deliveries = 0
        self.attempts = 0
        self.first_failed: float | None = None


def _place(item: Item) -> tuple[int, int]:
    return item.place


class Queue:
    """One queue."""

    def __init__(self, name: str, *, priority: bool) -> None:
        self.name = name
        self.waiting: list[Item] = []
        self.consumers: list[PushReceiver] = []
        self._priority = priority
        self._count = count()

    def put(self, message: WireMessage) -> None:
        """A message comes in at the tail, or before what is less urgent."""
        urgency = -(message.priority or 0) if self._priority else 0
        now = asyncio.get_running_loop().time()
        expires = now + message.ttl if message.ttl is not None else float("inf")
        insort(self.waiting, Item(message, (urgency, next(self._count)), expires), key=_place)
        self.pump()

    def back(self, items: Sequence[Item]) -> None:
        """These come back to where they were."""
        for item in items:
            insort(self.waiting, item, key=_place)
        self.pump()

    def later(self, item: Item, delay: float) -> None:
        """It comes in again at the tail, after a delay."""
        loop = asyncio.get_running_loop()
        if delay > 0:
            loop.call_later(delay, self.later, item, 0.0)
            return
        item.place = (item.place[0], next(self._count))
        self.back([item])

    def pump(self) -> None:
        """Push to the active consumer as much as it takes."""
        now = asyncio.get_running_loop().time()
        while self.waiting and self.consumers and self.consumers[0].room:
            item = self.waiting.pop(0)
            if item.expires > now:
                self.consumers[0].push(item)

    def leave(self, consumer: PushReceiver) -> None:
        """A consumer takes no more; the next becomes the active one."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)
            self.pump()


class PushReceiver:
    """One consumer on a link of its own."""

    def __init__(self, queue: Queue, events: Events, prefetch: int, wait: float) -> None:
        self._queue = queue
        self._events = events
        self._prefetch = prefetch
        self._channel = Assignment(f"{queue.name}#{next(_channels)}")
        self._tags = count(1)
        self._unacked: dict[int, Item] = {}
        self._buffer: deque[Received] = deque()
        self._bell = Bell()
        self._stopped = self._closed = False
        self.limits = ReceiveLimits(
            max_messages=200,
            wait=wait,
            settle_messages=200,
            max_delay=3600.0,
            handback_keeps_order=False,
            intake_ends="after_drain",
            release="close",
        )
        queue.consumers.append(self)
        events.assigned([self._channel])
        queue.pump()

    @property
    def room(self) -> bool:
        """Whether more may be pushed."""
        return len(self._unacked) < self._prefetch

    def push(self, item: Item) -> None:
        """A message arrives."""
        tag = next(self._tags)
        item.deliveries += 1
        self._unacked[tag] = item
        self._buffer.append(
            Received(
                message=item.message,
                token=tag,
                lane=item.message.key,
                assignment=self._channel,
                deliveries=item.deliveries,
                attempts=item.attempts,
                first_failed=item.first_failed,
            )
        )
        self._bell.ring()

    def cut(self) -> None:
        """The link is lost: everything on it goes back, in order."""
        if not self._channel.live:
            return
        self._channel.live = False
        self._events.lost([self._channel])
        self._give_back()
        self._bell.ring()

    def _give_back(self) -> None:
        items = [self._unacked[tag] for tag in sorted(self._unacked)]
        self._unacked.clear()
        self._buffer.clear()
        if self in self._queue.consumers:
            self._queue.consumers.remove(self)
        self._queue.back(items)

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """Drain the buffer; wait for it to fill."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            if self._closed:
                raise ClosedError("the receiver is closed", backend=NAME)
            if not self._channel.live:
                raise ConnectionLostError("the link is lost", backend=NAME)
            if self._buffer and max_messages:
                return [self._buffer.popleft() for _ in range(min(max_messages, len(self._buffer)))]
            if self._stopped or asyncio.get_running_loop().time() >= deadline:
                return []
            await self._bell.wait(deadline)

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Settle on this link; what another link delivered is not ours to settle."""
        await asyncio.sleep(0)
        results = [self._settle(settlement) for settlement in settlements]
        self._queue.pump()
        return results

    def _settle(self, settlement: Settlement) -> Error | None:
        if settlement.assignment is not self._channel or not self._channel.live:
            return AssignmentLostError("the link that delivered this is gone", backend=NAME)
        item = self._unacked.pop(settlement.token, None)
        if item is None:
            return AssignmentLostError("this was settled before", backend=NAME)
        item.attempts, item.first_failed = settlement.executions, settlement.first_failed
        if settlement.verb == "retry":
            self._queue.later(item, settlement.delay)
        elif settlement.verb == "release":
            self._queue.back([item])
        return None

    async def stop_intake(self) -> None:
        """Cancel the consumer; what is out stays on this link."""
        self._stopped = True
        self._queue.leave(self)
        self._bell.ring()

    async def aclose(self, *, abort: bool = False) -> None:  # noqa: ARG002 - closing gives back either way
        """Close the link: everything on it goes back, in order."""
        if self._closed:
            return
        self._closed = True
        self._channel.live = False
        self._give_back()
        self._queue.leave(self)
        self._bell.ring()
