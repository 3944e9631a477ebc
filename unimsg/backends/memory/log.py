"""Log: what was published to one destination, in order, for as long as a group or a replay may want it.

Law: data and arithmetic; time comes in as an argument, nobody waits here. Records live in chunks, so that what all
groups are done with goes in constant time, also when one message in the middle stays for a day.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from unimsg.headers import dedup_id
from unimsg.message import Position, Receipt, WireMessage

if TYPE_CHECKING:
    from unimsg.backends.memory.group import Group

log = logging.getLogger("unimsg.backends.memory")

BITS = 10
SIZE = 1 << BITS
"""Records of one chunk."""
MASK = SIZE - 1


class Rules(Struct, frozen=True, kw_only=True):
    """What holds for every destination of one broker; durations in seconds.

    Attributes:
        ordered: whether the messages of one key wait for each other.
        retention: after which an unconsumed message is dropped.
        history: the least number of messages that are kept for replay when all groups are done with them.
        dedup: for how long an id is recognised; 0: never.
        dedup_ids: the most ids that are remembered for that.
    """

    ordered: bool = True
    retention: float = inf
    history: int = 10_000
    dedup: float = 300.0
    dedup_ids: int = 100_000


class Record(Struct, gc=False):
    """One message as the log has it: not given before `due` nor after `ends`; times are `loop.time()`."""

    message: WireMessage
    position: Position
    offset: int
    at: float
    due: float = 0.0
    ends: float = inf


class Chunk:
    """`SIZE` records in a row, and how many of them each group is done with."""

    __slots__ = ("done", "number", "records")

    def __init__(self, number: int) -> None:
        self.number = number
        self.records: list[Record] = []
        self.done: dict[Group, int] = {}


class Seen:
    """The ids of the last `window` seconds, the latest `most` at most: two generations, so nothing is ever swept."""

    __slots__ = ("_born", "_half", "_new", "_old", "_warned", "_window")

    def __init__(self, window: float, most: int) -> None:
        self._window = window
        self._half = max(1, most // 2)
        self._new: dict[str, tuple[float, Position]] = {}
        self._old: dict[str, tuple[float, Position]] = {}
        self._born = -inf
        self._warned = False

    def find(self, message_id: str, now: float) -> Position | None:
        """Return where the message with this id was stored, if that was within the window."""
        stamp = self._new.get(message_id) or self._old.get(message_id)
        return stamp[1] if stamp is not None and now - stamp[0] < self._window else None

    def add(self, message_id: str, now: float, position: Position) -> None:
        """Remember an id."""
        if now - self._born >= self._window or len(self._new) >= self._half:
            self._turn(now)
        self._new[message_id] = (now, position)

    def _turn(self, now: float) -> None:
        if self._old and now - self._born < self._window and not self._warned:
            last = next(reversed(self._old.values()))[0]
            if now - last < self._window:
                self._warned = True
                log.warning(
                    "more than %d ids came within the dedup window of %g s: a second publish with an older id is not "
                    "recognised; give dedup_ids= a higher number",
                    2 * self._half,
                    self._window,
                )
        self._old, self._new, self._born = self._new, {}, now


class Log:
    """The records of one destination and the groups that read them."""

    def __init__(self, name: str, rules: Rules) -> None:
        self.name = name
        self.rules = rules
        self.next = 0
        """The offset of the next message."""
        self.chunks: dict[int, Chunk] = {}
        self.groups: dict[str, Group] = {}
        self._last: Chunk | None = None
        self._settled: deque[Chunk] = deque()
        """Chunks that all groups are done with, kept as history."""
        self._seen = Seen(rules.dedup, rules.dedup_ids) if rules.dedup else None

    def append(self, messages: Sequence[WireMessage], now: float, *, dedup: bool = True) -> list[Receipt]:
        """Store messages; an id that is known already is confirmed again and stored once."""
        receipts: list[Receipt] = []
        seen, name, kept = self._seen if dedup else None, self.name, now + self.rules.retention
        if kept < inf:
            self._drop_old(now)
        for message in messages:
            known = dedup_id(message) if seen is not None else None
            if seen is not None and known is not None:
                first = seen.find(known, now)
                if first is not None:
                    receipts.append(Receipt(message.id, first, duplicate=True))
                    continue
            offset = self.next
            position = Position(name, offset)
            if seen is not None and known is not None:
                seen.add(known, now, position)
            record = Record(message, position, offset, now, 0.0, kept)
            if message.delay:
                record.due = now + message.delay
            if message.ttl is not None:
                record.ends = min(kept, now + message.ttl)
            if not offset & MASK or self._last is None:
                self._last = self.chunks[offset >> BITS] = Chunk(offset >> BITS)
            self._last.records.append(record)
            self.next = offset + 1
            receipts.append(Receipt(message.id, position))
        return receipts

    def read(self, start: int) -> Iterator[Record]:
        """Yield the records from an offset on, as far as they are still there."""
        number, index = start >> BITS, start & MASK
        while number << BITS < self.next:
            chunk = self.chunks.get(number)
            if chunk is not None:
                yield from chunk.records[index:] if index else chunk.records
            number, index = number + 1, 0

    def find(self, at: float) -> int:
        """Return the offset of the first record stored at `at` or later."""
        for number, chunk in sorted(self.chunks.items()):
            if chunk.records[-1].at >= at:
                return (number << BITS) + next(i for i, record in enumerate(chunk.records) if record.at >= at)
        return self.next

    def oldest(self) -> int:
        """Return the offset of the oldest record."""
        return min(self.chunks) << BITS if self.chunks else self.next

    # ------------------------------------------------------------ letting go

    def joined(self, group: Group, start: int) -> None:
        """A group reads from `start` on: what lies before is done for it, what lies behind is wanted again."""
        self.groups[group.name] = group
        for number, chunk in self.chunks.items():
            chunk.done[group] = min(max(start - (number << BITS), 0), len(chunk.records))
        self._settled = deque(chunk for chunk in self._settled if self._is_settled(chunk))

    def left(self, name: str) -> None:
        """A group is gone: nothing is kept for it."""
        group = self.groups.pop(name, None)
        if group is None or not self.groups:
            return
        for chunk in self.chunks.values():
            chunk.done.pop(group, None)
        full = (chunk for _, chunk in sorted(self.chunks.items()) if len(chunk.records) >= SIZE)
        self._settled = deque(chunk for chunk in full if self._is_settled(chunk))
        self._drop_settled()

    def done(self, group: Group, number: int, count: int) -> None:
        """A group is done with `count` more records of a chunk."""
        chunk = self.chunks.get(number)
        if chunk is None:
            return
        chunk.done[group] = total = chunk.done.get(group, 0) + count
        if total >= SIZE and self._is_settled(chunk):
            self._settled.append(chunk)
            self._drop_settled()

    def _drop_settled(self) -> None:
        while len(self._settled) << BITS > self.rules.history:
            del self.chunks[self._settled.popleft().number]

    def _is_settled(self, chunk: Chunk) -> bool:
        return all(chunk.done.get(group, 0) >= SIZE for group in self.groups.values())

    def _drop_old(self, now: float) -> None:
        while self.chunks:
            chunk = (
                self.chunks[min(self.chunks)] if len(self.chunks) < SIZE else next(iter(self.chunks.values()))
            )
            if len(chunk.records) < SIZE or chunk.records[-1].at + self.rules.retention > now:
                return
            del self.chunks[chunk.number]
            self._settled = deque(kept for kept in self._settled if kept is not chunk)
