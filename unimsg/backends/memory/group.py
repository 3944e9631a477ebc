"""Group: one position in a log, shared by members that compete: leases, lanes, delays, and who waits.

Law: no I/O and no clock of its own. One message of a key is never with two members; a lane with a message out stays
with that member, its next wait for it. What comes back goes before what is new.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count
from math import inf

from unimsg.backends.memory.lane import LATER, NOWHERE, OWNED, READY, Batch, Entry, Lane
from unimsg.backends.memory.log import BITS, Log, Record
from unimsg.errors import Error, LeaseLostError
from unimsg.spi import Received, Settlement

SCAN = 10_000
"""Records that one call looks at, at most: the event loop must not stand still for a hot key."""
FEW = 64
"""Dead leases that are not worth clearing away."""


class Member:
    """One receiver in a group."""

    __slots__ = ("lane_limit", "lanes", "lease", "out", "prefetch")

    def __init__(self, prefetch: int, lease: float) -> None:
        self.prefetch = prefetch
        self.lease = lease
        self.lane_limit = max(1, prefetch // 4)
        self.out = 0
        self.lanes: deque[Lane] = deque()


class Group:
    """What one group has before it, has out and has put off."""

    def __init__(self, name: str, log: Log, start: int) -> None:
        self.name = name
        self.log = log
        self.members: set[Member] = set()
        self._order = count()
        self.seek(start)

    def seek(self, start: int) -> None:
        """Begin again at an offset: all that is out or waits is forgotten."""
        if hasattr(self, "_leases"):
            for entry in self._leased():
                entry.batch = entry.member = None
        self.cursor = start
        self.parked = 0
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane | Entry] = deque()
        self._later: list[tuple[float, int, Lane | Entry]] = []
        self._leases: list[tuple[float, int, Batch]] = []
        self._dead = 0
        for member in self.members:
            member.out = 0
            member.lanes.clear()
        self.log.joined(self, start)

    # ------------------------------------------------------------ what there is

    @property
    def lag(self) -> int:
        """How many messages wait."""
        return self.log.next - self.cursor + self.parked

    @property
    def more(self) -> bool:
        """Whether something may be there now for any member."""
        return bool(self._ready) or self.cursor < self.log.next

    @property
    def due(self) -> float:
        """When the next delay ends."""
        return self._later[0][0] if self._later else inf

    @property
    def next(self) -> float:
        """When the next delay or lease ends."""
        return min(self.due, self._leases[0][0]) if self._leases else self.due

    # ------------------------------------------------------------ out to a member

    def take(self, member: Member, most: int, now: float) -> list[Received]:
        """Lease up to `most` messages to a member."""
        self.tick(now)
        most = min(most, member.prefetch - member.out)
        if most <= 0:
            return []
        taken: list[Entry] = []
        while member.lanes and len(taken) < most:
            lane = member.lanes.popleft()
            if lane.place == OWNED and lane.member is member:
                self._from_lane(lane, member, most, now, taken)
        while self._ready and len(taken) < most:
            item = self._ready.popleft()
            if isinstance(item, Lane):
                self._from_lane(item, member, most, now, taken)
            else:
                self.parked -= 1
                if item.record.ends > now:
                    taken.append(item)
                else:
                    self._finished(item.record)
        if len(taken) < most and self.cursor < self.log.next:
            self._from_log(member, most, now, taken)
        return self._lease(taken, member, now) if taken else []

    def _from_lane(self, lane: Lane, member: Member, most: int, now: float, taken: list[Entry]) -> None:
        lane.place = NOWHERE
        lane.member = member
        waiting = lane.waiting
        while waiting and len(taken) < most and lane.out < member.lane_limit:
            entry = waiting[0]
            if entry.due > now:
                break
            waiting.popleft()
            self.parked -= 1
            if entry.record.ends > now:
                lane.out += 1
                taken.append(entry)
            else:
                self._finished(entry.record)
        self._offer(lane, now)

    def _from_log(self, member: Member, most: int, now: float, taken: list[Entry]) -> None:
        lanes, ordered, limit = self._lanes, self.log.rules.ordered, member.lane_limit
        stop = self.cursor + SCAN
        at = self.cursor
        for record in self.log.read(at):
            at = record.offset
            if len(taken) >= most or at >= stop:
                self.cursor = at
                return
            if record.ends <= now:
                self._finished(record)
                continue
            key = record.message.key
            if key is None or not ordered:
                entry = Entry(record, None, record.due)
                if record.due <= now:
                    taken.append(entry)
                else:
                    self._park(entry, now)
                continue
            lane = lanes.get(key)
            if lane is None:
                lane = lanes[key] = Lane(key)
                lane.member = member
            entry = Entry(record, lane, record.due)
            if not lane.waiting and record.due <= now and lane.member is member and lane.out < limit:
                lane.out += 1
                taken.append(entry)
            else:
                lane.waiting.append(entry)
                self.parked += 1
                self._offer(lane, now)
        self.cursor = self.log.next

    def _lease(self, taken: list[Entry], member: Member, now: float) -> list[Received]:
        until = now + member.lease
        batch = Batch(taken)
        heapq.heappush(self._leases, (until, next(self._order), batch))
        member.out += len(taken)
        received: list[Received] = []
        for entry in taken:
            entry.member, entry.batch, entry.until = member, batch, until
            entry.deliveries += 1
            record, lane = entry.record, entry.lane
            key = None if lane is None else lane.key
            received.append(
                Received(
                    record.message,
                    entry,
                    key,
                    None,
                    entry.deliveries,
                    entry.attempts,
                    until,
                    record.position,
                    record,
                    entry.first_failed,
                )
            )
        return received

    # ------------------------------------------------------------ back from a member

    def settle(self, settlements: Sequence[Settlement], now: float) -> list[Error | None]:
        """Do what is asked for each; `LeaseLostError` where the lease is gone."""
        self.tick(now)
        results: list[Error | None] = [None] * len(settlements)
        number, count = -1, 0
        for index, settlement in enumerate(settlements):
            entry: Entry = settlement.token
            if entry.batch is None:
                results[index] = LeaseLostError("the lease is gone: settled already, or given to another")
            elif settlement.verb == "ack":
                self._unlease(entry)
                lane = entry.lane
                if lane is not None:
                    lane.out -= 1
                    self._offer(lane, now)
                if entry.record.offset >> BITS != number:
                    if count:
                        self.log.done(self, number, count)
                    number, count = entry.record.offset >> BITS, 0
                count += 1
            else:
                entry.attempts, entry.first_failed = settlement.executions, settlement.first_failed
                self._return(entry, now, now + settlement.delay)
        if count:
            self.log.done(self, number, count)
        return results

    def extend(self, entries: Sequence[Entry], seconds: float, now: float) -> list[Error | None]:
        """Let each lease end `seconds` from now."""
        self.tick(now)
        held = [entry for entry in entries if entry.batch is not None]
        if held:
            batch, until = Batch(held), now + seconds
            for entry in held:
                self._leave(entry)
                entry.batch, entry.until = batch, until
            heapq.heappush(self._leases, (until, next(self._order), batch))
        return [
            None if entry.batch is not None else LeaseLostError("the lease is gone: it cannot be extended")
            for entry in entries
        ]

    def give_back(self, member: Member, now: float) -> None:
        """A member leaves: what it has out goes back uncounted, in order."""
        for entry in sorted(entry for entry in self._leased() if entry.member is member):
            self._return(entry, now, now)

    def tick(self, now: float) -> None:
        """End what has ended by now: delays and leases."""
        while self._leases and self._leases[0][0] <= now:
            batch = heapq.heappop(self._leases)[2]
            self._dead -= 1  # it counts as dead from the moment that its last entry leaves
            if batch.left:
                self._expire([entry for entry in batch.entries if entry.batch is batch], now)
        while self._later and self._later[0][0] <= now:
            due, _, item = heapq.heappop(self._later)
            if isinstance(item, Entry):
                self._ready.append(item)
            elif item.place == LATER and item.due == due:
                item.place = NOWHERE
                self._offer(item, now)

    # ------------------------------------------------------------ moves

    def _expire(self, entries: list[Entry], now: float) -> None:
        """Take back what has no lease any more, and what is out behind it in its lane: it would overtake."""
        heads: dict[Lane, int] = {}
        for entry in entries:
            if entry.lane is not None:
                heads[entry.lane] = min(heads.get(entry.lane, entry.record.offset), entry.record.offset)
        gone = set(entries)
        if heads:
            gone.update(
                entry
                for entry in self._leased()
                if entry.lane is not None and entry.record.offset > heads.get(entry.lane, entry.record.offset)
            )
        for entry in sorted(gone):
            if entry.batch is not None:
                self._return(entry, now, now)

    def _leased(self) -> list[Entry]:
        return [entry for _, _, batch in self._leases for entry in batch.entries if entry.batch is batch]

    def _unlease(self, entry: Entry) -> None:
        self._leave(entry)
        if entry.member is not None:
            entry.member.out -= 1
        entry.member = None

    def _leave(self, entry: Entry) -> None:
        batch = entry.batch
        entry.batch = None
        if batch is None:
            return
        batch.left -= 1
        if not batch.left:
            batch.entries = []
            self._dead += 1
            if self._dead > FEW and self._dead * 2 > len(self._leases):
                self._leases = [item for item in self._leases if item[2].left]
                heapq.heapify(self._leases)
                self._dead = 0

    def _return(self, entry: Entry, now: float, due: float) -> None:
        self._unlease(entry)
        lane = entry.lane
        again = Entry(entry.record, lane, due, entry.deliveries, entry.attempts)
        again.first_failed = entry.first_failed
        if lane is None:
            self._park(again, now)
            return
        lane.out -= 1
        lane.put_back(again)
        self.parked += 1
        self._offer(lane, now)

    def _park(self, entry: Entry, now: float) -> None:
        self.parked += 1
        if entry.due <= now:
            self._ready.append(entry)
        else:
            heapq.heappush(self._later, (entry.due, next(self._order), entry))

    def _offer(self, lane: Lane, now: float) -> None:
        """Put a lane where whoever may have its head finds it."""
        if not lane.waiting:
            if not lane.out:
                del self._lanes[lane.key]
            lane.place = NOWHERE
            return
        due, member = lane.waiting[0].due, lane.member
        if due > now:
            if lane.place != LATER or lane.due != due:
                lane.place, lane.due = LATER, due
                heapq.heappush(self._later, (due, next(self._order), lane))
        elif not lane.out:
            if lane.place != READY:
                lane.place, lane.member = READY, None
                self._ready.append(lane)
        elif member is not None and lane.out < member.lane_limit:
            if lane.place != OWNED:
                lane.place = OWNED
                member.lanes.append(lane)
        else:
            lane.place = NOWHERE

    def _finished(self, record: Record) -> None:
        self.log.done(self, record.offset >> BITS, 1)
