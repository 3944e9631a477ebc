"""Take: one member's turn in a group: first what came back, lane by lane, then what is new.

Law: statements inside one transaction; what is free for this member, and in which order, is decided here alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from unimsg.backends.sqlite.group import Group, Token
from unimsg.backends.sqlite.lane import Lanes
from unimsg.backends.sqlite.log import MASK
from unimsg.backends.sqlite.wire import COLUMNS

SCAN = 2000
"""Messages that one turn looks at, at most: others wait for the file."""
BACK = (
    "SELECT e.seq, e.due, m.ends, e.deliveries, e.attempts, e.first_failed, "
    + ", ".join(f"m.{c}" for c in COLUMNS.split(", "))
    + " "
    "FROM unimsg_entries e LEFT JOIN unimsg_messages m ON m.seq = (? | (e.seq & ?)) "
    "WHERE e.grp = ? AND e.member IS NULL "
)


class Taken(NamedTuple):
    """One message that was leased."""

    token: Token
    deliveries: int
    attempts: int
    first_failed: float | None
    row: Sequence[Any]
    """As `wire.decode` takes it."""


class Haul(NamedTuple):
    """What a member got, whether more is there, and when to look again when it got nothing."""

    taken: list[Taken]
    more: bool = False
    due: float | None = None


class Turn:
    """One `take` of a member.

    Args:
        db: in a transaction.
        group: whose messages.
        member: who takes.
        room: the most that may be out of one lane.
        most: how many to take.
        now: the time.
    """

    def __init__(
        self, db: sqlite3.Connection, group: Group, *, member: int, room: int, most: int, now: float
    ) -> None:
        self._db = db
        self._group = group
        self._member = member
        self._room = room
        self._most = most
        self._now = now
        self._until = now + group.log.rules.lease
        self._lanes = Lanes(db, group.number)
        self._taken: list[Taken] = []

    def take(self) -> Haul:
        """Lease what is free."""
        db, group, now = self._db, self._group, self._now
        group.tick(db, now)
        start, fence = db.execute(
            "SELECT next, fence FROM unimsg_groups WHERE id = ?", (group.number,)
        ).fetchone()
        self._fence = fence + 1
        cursor = start
        self._come_back()
        if len(self._taken) < self._most:
            cursor = self._new(start)
        if self._taken or cursor != start:
            db.execute(
                "UPDATE unimsg_groups SET next = ?, fence = ? WHERE id = ?",
                (cursor, self._fence, group.number),
            )
        self._lanes.save()
        more = len(self._taken) >= self._most or cursor - start >= SCAN
        return Haul(self._taken, more, None if self._taken or more else group.due(db, now))

    # ------------------------------------------------------------ what came back, or waited

    def _come_back(self) -> None:
        rows: list[Sequence[Any]] = []
        gone: list[tuple[int]] = []
        for row in self._free():
            if row[2] is None or row[2] <= self._now:
                gone.append((row[0],))
            else:
                rows.append(row)
            if len(rows) >= self._most:
                break
        for row in rows:
            self._taken.append(Taken(Token(row[0], self._fence), row[3] + 1, row[4], row[5], row[6:]))
        self._db.executemany(
            "UPDATE unimsg_entries SET member = ?, until = ?, fence = ?, deliveries = deliveries + 1 WHERE seq = ?",
            [(self._member, self._until, self._fence, row[0]) for row in rows],
        )
        self._db.executemany("DELETE FROM unimsg_entries WHERE seq = ?", gone)
        for key in self._opened:
            self._find_head(key)

    def _free(self) -> Iterator[Sequence[Any]]:
        """Yield what this member may have, in order for each lane."""
        group, now = self._group, self._now
        values = (group.log.base, MASK, group.number)
        self._opened: set[str | bytes] = set()
        for key in self._lanes.waiting(self._member, self._room, self._most, now):
            lane = self._lanes.get(key)
            self._opened.add(key)
            lane.member = self._member
            for row in self._db.execute(BACK + "AND e.key = ? ORDER BY e.seq", (*values, key)):
                if row[1] > now or lane.out >= self._room:
                    break
                if row[2] is not None and row[2] > now:
                    lane.out += 1
                yield row
        yield from self._db.execute(BACK + "AND e.key IS NULL AND e.due <= ? ORDER BY e.due", (*values, now))

    def _find_head(self, key: str | bytes) -> None:
        lane = self._lanes.get(key)
        row = self._db.execute(
            "SELECT seq, due FROM unimsg_entries WHERE grp = ? AND key = ? AND member IS NULL ORDER BY seq LIMIT 1",
            (self._group.number, key),
        ).fetchone()
        lane.head, lane.due = row or (None, None)

    # ------------------------------------------------------------ what is new

    def _new(self, start: int) -> int:
        """Take new messages; returns where the group stands then."""
        log, now, ordered = self._group.log, self._now, self._group.log.rules.ordered
        entries: list[tuple[Any, ...]] = []
        cursor, number, base = start, self._group.number, self._group.base
        rows = self._db.execute(
            f"SELECT seq, due, ends, {COLUMNS} FROM unimsg_messages "  # noqa: S608 - our own words
            "WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
            (log.base + start, log.base | MASK, SCAN),
        )
        for row in self._some(rows):
            cursor = (row[0] & MASK) + 1
            if row[2] <= now:
                continue
            seq, due, key = base | (cursor - 1), row[1], row[4] if ordered else None
            if due <= now if key is None else self._start(key, seq, due):
                entries.append((seq, number, key, self._member, self._until, due, self._fence, 1, 0, None))
                self._taken.append(Taken(Token(seq, self._fence), 1, 0, None, row[3:]))
            else:
                entries.append((seq, number, key, None, None, due, 0, 0, 0, None))
        self._db.executemany("INSERT INTO unimsg_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", entries)
        return cursor

    def _some(self, rows: sqlite3.Cursor) -> Iterator[Sequence[Any]]:
        """Yield rows for as long as any may be taken, their lanes read at once."""
        ordered = self._group.log.rules.ordered
        while (room := self._most - len(self._taken)) > 0 and (some := rows.fetchmany(room)):
            if ordered:
                self._lanes.load(row[4] for row in some)
            yield from some

    def _start(self, key: str | bytes, seq: int, due: float) -> bool:
        """Whether this member may have a new message of a lane now; else it waits there."""
        lane = self._lanes.get(key)
        mine = not lane.out or (lane.member == self._member and lane.out < self._room)
        if lane.head is not None or due > self._now or not mine:
            lane.put(seq, due)
            return False
        lane.member = self._member
        lane.out += 1
        return True
