"""Log: what was published to one destination, in order, for as long as a group or a replay may want it.

Law: statements on the messages and ids of one destination, inside a transaction that the writer has begun; time comes
in as an argument.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from math import inf
from typing import TypeAlias

from msgspec import Struct

from unimsg.backends.sqlite import wire
from unimsg.backends.sqlite.file import BITS
from unimsg.headers import dedup_id
from unimsg.message import Position, Receipt, WireMessage

Id: TypeAlias = str | bytes
MASK = (1 << BITS) - 1
SWEEP = 1000
"""Messages after which what nobody needs is deleted, twice as many at a time."""


class Rules(Struct, frozen=True, kw_only=True):
    """What holds for every destination of one file; durations in seconds.

    Attributes:
        lease: how long a delivery belongs to its member.
        ordered: whether the messages of one key wait for each other.
        retention: after which an unconsumed message is dropped.
        history: the least number of messages that are kept for replay when all groups are done with them.
        dedup: for how long an id is recognised; 0: never.
    """

    lease: float = 30.0
    ordered: bool = True
    retention: float = inf
    history: int = 1_000_000
    dedup: float = 300.0


class Log:
    """One destination."""

    def __init__(self, number: int, name: str, rules: Rules) -> None:
        self.name = name
        self.rules = rules
        self.number = number
        self.base = number << BITS
        """The row number of offset 0."""
        self._swept = ""

    def next(self, db: sqlite3.Connection) -> int:
        """Return the offset of the next message."""
        found: int = db.execute(
            "SELECT next FROM unimsg_destinations WHERE id = ?", (self.number,)
        ).fetchone()[0]
        return found

    def append(self, db: sqlite3.Connection, messages: Sequence[WireMessage], now: float) -> list[Receipt]:
        """Store messages; an id that is known already is confirmed again and stored once."""
        rules, number, base = self.rules, self.number, self.base
        start = offset = self.next(db)
        receipts: list[Receipt] = []
        rows: list[tuple[object, ...]] = []
        names = [wire.text(dedup_id(message)) if rules.dedup else None for message in messages]
        stored = self._stored(db, [name for name in names if name is not None], now)
        ids: dict[Id, int] = {}
        for message, name in zip(messages, names, strict=True):
            row = wire.encode(message)
            if name is not None:
                first = stored.get(name)
                if first is None:
                    first = ids.get(name)
                if first is not None:
                    receipts.append(Receipt(message.id, Position(self.name, first), duplicate=True))
                    continue
                ids[name] = offset
            ends = now + rules.retention if message.ttl is None else now + min(message.ttl, rules.retention)
            rows.append((base | offset, now, now + message.delay if message.delay else 0.0, ends, *row))
            receipts.append(Receipt(message.id, Position(self.name, offset)))
            offset += 1
        if rows:
            db.executemany("INSERT INTO unimsg_messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("UPDATE unimsg_destinations SET next = ? WHERE id = ?", (offset, number))
        if ids:
            stamps = [(number, key, now, first) for key, first in ids.items()]
            db.executemany("INSERT OR REPLACE INTO unimsg_ids VALUES (?, ?, ?, ?)", stamps)
        if offset // SWEEP > start // SWEEP:
            self.sweep(db, now)
        return receipts

    def _stored(self, db: sqlite3.Connection, names: Sequence[Id], now: float) -> dict[Id, int]:
        """Return the offset of each id that was stored within the window."""
        if not names:
            return {}
        marks = ", ".join("?" * len(names))
        rows = db.execute(
            f"SELECT id, seq FROM unimsg_ids WHERE destination = ? AND at > ? AND id IN ({marks})",  # noqa: S608 - marks
            (self.number, now - self.rules.dedup, *names),
        )
        return dict(rows.fetchall())

    # ------------------------------------------------------------ where to begin

    def oldest(self, db: sqlite3.Connection) -> int:
        """Return the offset of the oldest message."""
        return self._first(db, "1", ())

    def find(self, db: sqlite3.Connection, at: float) -> int:
        """Return the offset of the first message stored at `at` or later."""
        return self._first(db, "at >= ?", (at,))

    def _first(self, db: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> int:
        query = f"SELECT seq FROM unimsg_messages WHERE seq BETWEEN ? AND ? AND {condition}"  # noqa: S608 - ours
        row = db.execute(f"{query} ORDER BY seq LIMIT 1", (self.base, self.base | MASK, *values)).fetchone()
        return self.next(db) if row is None else row[0] & MASK

    # ------------------------------------------------------------ letting go

    def sweep(self, db: sqlite3.Connection, now: float) -> None:
        """Delete some of what is past its end, and of what all groups are done with beyond the history."""
        db.execute(
            "DELETE FROM unimsg_messages WHERE seq IN (SELECT seq FROM (SELECT seq, ends FROM unimsg_messages "
            "WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?) WHERE ends <= ?)",
            (self.base, self.base | MASK, 2 * SWEEP, now),
        )
        groups = db.execute(
            "SELECT id, next FROM unimsg_groups WHERE destination = ?", (self.number,)
        ).fetchall()
        limit = min([self.next(db) - self.rules.history, *(group[1] for group in groups)])
        if groups and limit > 0:
            db.execute(
                "DELETE FROM unimsg_messages WHERE seq IN (SELECT seq FROM unimsg_messages m "
                "WHERE seq BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM unimsg_groups g CROSS JOIN unimsg_entries e "
                "ON e.seq = ((g.id << ?5) | (m.seq & ?6)) WHERE g.destination = ?4) ORDER BY seq LIMIT ?3)",
                (self.base, self.base + limit - 1, 2 * SWEEP, self.number, BITS, MASK),
            )
        self._sweep_ids(db, now)

    def _sweep_ids(self, db: sqlite3.Connection, now: float) -> None:
        """Walk over the ids, some at a time, and delete those that are past the window."""
        rows = db.execute(
            "SELECT id, at FROM unimsg_ids WHERE destination = ? AND id > ? ORDER BY id LIMIT ?",
            (self.number, self._swept, 2 * SWEEP),
        ).fetchall()
        old = [(self.number, row[0]) for row in rows if row[1] <= now - self.rules.dedup]
        db.executemany("DELETE FROM unimsg_ids WHERE destination = ? AND id = ?", old)
        self._swept = rows[-1][0] if len(rows) == 2 * SWEEP else ""
