"""Lane and Entry: what a group knows of one message, and of the messages of one key that wait for each other.

Law: data; the moves are made by `Group`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from unimsg.backends.memory.log import Record

if TYPE_CHECKING:
    from unimsg.backends.memory.group import Member

NOWHERE, LATER, OWNED, READY = 0, 1, 2, 3
"""Where a lane with waiting messages stands: full, with the timers, with its member, open to all."""


class Entry:
    """One message in a group, from when it is first looked at; the token of its delivery while it is leased.

    A message that comes back gets a new entry: that is the fence, an old token finds its own entry without a lease.
    """

    __slots__ = (
        "attempts",
        "batch",
        "deliveries",
        "due",
        "first_failed",
        "lane",
        "member",
        "record",
        "until",
    )

    def __init__(
        self, record: Record, lane: Lane | None, due: float = 0.0, deliveries: int = 0, attempts: int = 0
    ) -> None:
        self.record = record
        self.lane = lane
        self.due = due
        self.deliveries = deliveries
        self.attempts = attempts
        self.first_failed: float | None = None
        self.member: Member | None = None
        self.batch: Batch | None = None
        """Who holds the lease, and with what; both None: nobody."""
        self.until = 0.0

    def __lt__(self, other: Entry) -> bool:
        return self.record.offset < other.record.offset


class Batch:
    """Entries whose lease ends together."""

    __slots__ = ("entries", "left")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.left = len(entries)


class Lane:
    """The messages of one key: what waits, how many are out, and with whom."""

    __slots__ = ("due", "key", "member", "out", "place", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Entry] = deque()
        self.out = 0
        self.member: Member | None = None
        self.place = NOWHERE
        self.due = 0.0

    def put_back(self, entry: Entry) -> None:
        """Put an entry where it belongs: what comes back is among the first."""
        waiting = self.waiting
        before: list[Entry] = []
        while waiting and waiting[0].record.offset < entry.record.offset:
            before.append(waiting.popleft())
        waiting.appendleft(entry)
        waiting.extendleft(reversed(before))
