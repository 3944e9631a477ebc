"""Lanes: what waits to go out, in the order of each lane, and cut into batches that keep the sender's limits.

Law: pure. No I/O, no clock of its own (time comes in as an argument), no verdicts. A lane that keeps order is out of
reach while a batch of it is on the wire or while its head waits to be sent again: so nothing can overtake.
Ordered dictionaries, because any of thousands that wait can be withdrawn, and its place must go with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count

from unimsg.publishing.entry import SENT, WAITING, Entry
from unimsg.spi import SendLimits

IDLE, READY, BUSY, HELD = 0, 1, 2, 3


class Lane:
    """The entries of one lane, oldest first.

    Attributes:
        name: the sender's word for it; None: the lane of those that ask for no order.
        entries: those that wait, in order, and `size` their bytes.
        state: IDLE (nothing to send), READY (can be cut), BUSY (on the wire), HELD (its head waits for a time).
        counted: how many of its messages are in the totals, and `counted_size` their bytes; while READY only.
    """

    __slots__ = ("counted", "counted_size", "entries", "name", "size", "state")

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.entries: OrderedDict[Entry, None] = OrderedDict()
        self.size = 0
        self.state = IDLE
        self.counted = 0
        self.counted_size = 0


class Lanes:
    """All lanes of one publisher.

    Attributes:
        limits: what a batch keeps to; replaced when a new sender opens.
        messages: how many could be cut now, and `size` their bytes.
        waiting: how many wait in all.
    """

    def __init__(self, limits: SendLimits) -> None:
        self.limits = limits
        self.messages = 0
        self.size = 0
        self.waiting = 0
        self._free = Lane(None)
        self._named: dict[Hashable, Lane] = {}
        self._ready: OrderedDict[Lane, None] = OrderedDict()
        self._held: list[tuple[float, int, Lane, OrderedDict[Entry, None]]] = []
        self._turn = count()

    def __iter__(self) -> Iterator[Entry]:
        """All that wait, lane by lane; what is met may be taken out meanwhile."""
        for lane in (self._free, *self._named.values()):
            yield from tuple(lane.entries)
        for _, _, _, beside in tuple(self._held):
            yield from tuple(beside)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a batch that need not wait for more."""
        limits = self.limits
        return self.messages >= limits.max_messages or self.size >= limits.max_bytes or limits.batch_is_lane

    @property
    def batches(self) -> int:
        """How many full batches could be cut now; where a batch is of one lane, each ready lane is one."""
        limits = self.limits
        if limits.batch_is_lane:
            return len(self._ready)
        return max(self.messages // limits.max_messages, self.size // limits.max_bytes)

    def put(self, entry: Entry, name: Hashable) -> None:
        """Queue at the tail of its lane."""
        lane = self._free
        if name is not None:
            found = self._named.get(name)
            lane = found if found is not None else self._named.setdefault(name, Lane(name))
        entry.lane = lane
        lane.entries[entry] = None
        lane.size += entry.size
        self.waiting += 1
        if lane.state == READY:
            if name is None or self.limits.atomic_lane:
                lane.counted += 1
                lane.counted_size += entry.size
                self.messages += 1
                self.size += entry.size
        elif lane.state == IDLE:
            self._enter(lane)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and no lane is out of reach."""
        return not self.waiting and not self._named

    def hand_over(self, entry: Entry, name: Hashable) -> None:
        """Put and cut in one, where all is empty."""
        lane = self._free
        if name is not None:
            lane = self._named[name] = Lane(name)
            lane.state = BUSY
        entry.lane = lane
        entry.state = SENT

    def cut(self) -> list[Entry]:
        """Take the next batch; the lanes in it that keep order are out of reach until `give_back`."""
        limits, ready = self.limits, self._ready
        batch: list[Entry] = []
        space = limits.max_bytes
        while ready and len(batch) < limits.max_messages:
            lane, _ = ready.popitem(last=False)
            self._leave(lane)
            room = limits.max_messages - len(batch)
            if lane.name is not None and not limits.atomic_lane:
                room = 1
            before = len(batch)
            space = _take(lane, batch, room, space)
            if lane.name is not None and len(batch) > before:
                lane.state = BUSY
            elif lane.entries:
                self._enter(lane, first=True)
            if space < 0 or limits.batch_is_lane:
                break
        self.waiting -= len(batch)
        return batch

    def give_back(self, batch: Iterable[Entry]) -> None:
        """The batch is over: its lanes can be cut again, unless their head was put back to wait."""
        for entry in batch:
            lane = entry.lane
            if lane is not None and lane.state == BUSY:
                self._free_or_forget(lane)

    def put_back(self, entries: Sequence[Entry], due: float) -> None:
        """Put entries of one lane back to its head, in their order, not to be cut before `due`.

        Those that ask for no order wait beside the others, which pass them.
        """
        lane = entries[0].lane
        assert lane is not None  # noqa: S101 - it was cut from one
        self.waiting += len(entries)
        beside: OrderedDict[Entry, None] = OrderedDict()
        if lane.name is None:
            for entry in entries:
                entry.state = WAITING
                entry.beside = beside
                beside[entry] = None
        else:
            _push(lane, entries)
            lane.state = HELD
        heappush(self._held, (due, next(self._turn), lane, beside))

    def release(self, now: float) -> float | None:
        """Let go what is due; returns when the next is, None when nothing is held."""
        held = self._held
        while held and held[0][0] <= now:
            _, _, lane, beside = heappop(held)
            if lane.name is None:
                if lane.state == READY:
                    del self._ready[lane]
                    self._leave(lane)
                for entry in beside:
                    entry.beside = None
                _push(lane, tuple(beside))
            self._free_or_forget(lane, first=True)
        return held[0][0] if held else None

    def withdraw(self, entry: Entry) -> None:
        """Take out an entry that waits."""
        lane = entry.lane
        assert lane is not None  # noqa: S101 - it was put
        self.waiting -= 1
        if entry.beside is not None:
            del entry.beside[entry]
            return
        del lane.entries[entry]
        lane.size -= entry.size
        if lane.state == READY:
            self._leave(lane)
            if lane.entries:
                self._count(lane)
            else:
                del self._ready[lane]
                self._free_or_forget(lane)

    def behind(self, entry: Entry) -> tuple[Entry, ...]:
        """Those that wait in the lane of an entry; none where no order is asked for."""
        lane = entry.lane
        return () if lane is None or lane.name is None else tuple(lane.entries)

    def _free_or_forget(self, lane: Lane, *, first: bool = False) -> None:
        if lane.entries:
            self._enter(lane, first=first)
            return
        lane.state = IDLE
        if lane.name is not None:
            del self._named[lane.name]

    def _enter(self, lane: Lane, *, first: bool = False) -> None:
        self._count(lane)
        self._ready[lane] = None
        if first:
            self._ready.move_to_end(lane, last=False)

    def _count(self, lane: Lane) -> None:
        lane.state = READY
        if lane.name is None or self.limits.atomic_lane:
            lane.counted, lane.counted_size = len(lane.entries), lane.size
        else:
            lane.counted, lane.counted_size = 1, next(iter(lane.entries)).size
        self.messages += lane.counted
        self.size += lane.counted_size

    def _leave(self, lane: Lane) -> None:
        lane.state = IDLE
        self.messages -= lane.counted
        self.size -= lane.counted_size


def _take(lane: Lane, batch: list[Entry], room: int, space: int) -> int:
    """Move up to `room` entries within `space` bytes; returns the space left, negative when one did not fit."""
    entries = lane.entries
    while entries and room:
        entry, _ = entries.popitem(last=False)
        if entry.size > space and batch:
            entries[entry] = None
            entries.move_to_end(entry, last=False)
            return -1
        entry.state = SENT
        lane.size -= entry.size
        space -= entry.size
        room -= 1
        batch.append(entry)
    return max(space, 0)


def _push(lane: Lane, entries: Sequence[Entry]) -> None:
    """Put entries at the head, in their order."""
    for entry in reversed(entries):
        entry.state = WAITING
        lane.entries[entry] = None
        lane.entries.move_to_end(entry, last=False)
        lane.size += entry.size
