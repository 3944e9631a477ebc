"""The service side of `fifolike`: one queue with message groups, leases, receipts, long polls and deduplication.

Law: as `fifo`; it acts by itself in `loop.time()` and knows no consumers, only receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from itertools import count
from typing import Any

from unimsg.errors import Error, LeaseLostError
from unimsg.headers import dedup_id
from unimsg.message import Receipt, WireMessage
from unimsg.spi import Received, Settlement

LONGEST = 43_200.0
"""Seconds from receipt that a lease can be prolonged to."""


class Item:
    """A message in the queue.

    Attributes:
        visible: when it can be received (again).
        receipt: names its last delivery; 0: it was never received.
        out: it was received, and neither settled nor has its lease ended.
    """

    __slots__ = ("deliveries", "lane", "message", "out", "receipt", "received", "visible")

    def __init__(self, message: WireMessage, lane: Hashable) -> None:
        self.message = message
        self.lane = lane
        self.visible = 0.0
        self.receipt = 0
        self.out = False
        self.received = 0.0
        self.deliveries = 0


class Poll:
    """A long poll at the service: it lives until it is answered, whoever still listens."""

    def __init__(self, most: int, until: float, lease: float, answer: asyncio.Future[list[Received]]) -> None:
        self.most = most
        self.until = until
        self.lease = lease
        self.answer = answer


class Queue:
    """One queue."""

    def __init__(self, name: str, *, dedup: float) -> None:
        self.name = name
        self.items: list[Item] = []
        self.polls: list[Poll] = []
        self._dedup = dedup
        self._seen: dict[str, float] = {}
        self._receipts = count(1)
        self._alone = count()
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ in

    def put(self, message: WireMessage) -> Receipt | Error:
        """Take a message, unless its id was seen within the window."""
        now = asyncio.get_running_loop().time()
        known = dedup_id(message)
        if self._dedup and known is not None:
            if self._seen.get(known, now) > now:
                return Receipt(id=message.id, duplicate=True)
            self._seen[known] = now + self._dedup
        lane: Hashable = message.key if message.key is not None else next(self._alone)
        self.items.append(Item(message, lane))
        self.serve()
        return Receipt(id=message.id)

    # ------------------------------------------------------------ out

    def poll(self, most: int, wait: float, lease: float) -> Poll:
        """Open a long poll."""
        loop = asyncio.get_running_loop()
        poll = Poll(most, loop.time() + wait, lease, loop.create_future())
        self.polls.append(poll)
        loop.call_soon(self.serve)
        return poll

    def serve(self) -> None:
        """Answer every poll that can be answered, and see to it that the next change is noticed."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for poll in list(self.polls):
            batch = self._take(poll, now)
            if batch or poll.until <= now:
                self.polls.remove(poll)
                if not poll.answer.done():
                    poll.answer.set_result(batch)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.polls:
            due = [i.visible for i in self.items if i.visible > now]
            self._timer = loop.call_at(min(due + [poll.until for poll in self.polls]), self.serve)

    def _take(self, poll: Poll, now: float) -> list[Received]:
        blocked: set[Hashable] = set()
        batch: list[Received] = []
        for item in self.items:
            if len(batch) == poll.most:
                break
            if item.lane in blocked:
                continue
            if item.visible > now:
                blocked.add(item.lane)
                continue
            batch.append(self._lend(item, poll.lease, now))
        return batch

    def _lend(self, item: Item, lease: float, now: float) -> Received:
        item.receipt = next(self._receipts)
        item.out = True
        item.received = now
        item.visible = now + lease
        item.deliveries += 1
        return Received(
            message=item.message,
            token=(item, item.receipt),
            lane=item.message.key,
            deliveries=item.deliveries,
            lease_until=item.visible,
        )

    # ------------------------------------------------------------ what becomes of it

    def settle(self, settlement: Settlement) -> Error | None:
        """Delete it, or make it visible after a delay; its group waits meanwhile."""
        item, problem = self._held(settlement.token)
        if problem is not None:
            return problem
        item.out = False
        if settlement.verb == "ack":
            self.items.remove(item)
        else:
            item.visible = asyncio.get_running_loop().time() + settlement.delay
        self.serve()
        return None

    def extend(self, token: Any, seconds: float) -> Error | None:
        """Prolong a lease, up to the longest."""
        item, problem = self._held(token)
        if problem is not None:
            return problem
        now = asyncio.get_running_loop().time()
        if now + seconds > item.received + LONGEST:
            return LeaseLostError("a lease ends 12 h after it was received")
        item.visible = now + seconds
        self.serve()
        return None

    def _held(self, token: Any) -> tuple[Item, Error | None]:
        item, receipt = token
        now = asyncio.get_running_loop().time()
        if item not in self.items or item.receipt != receipt or not item.out or item.visible <= now:
            return item, LeaseLostError("the receipt is not valid any more")
        return item, None
