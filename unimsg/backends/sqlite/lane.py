"""Lane: what a group keeps of the messages of one key that wait for each other, as a row.

Law: rows are read once and written once in a transaction; the moves are made by `Group`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable


class Lane:
    """The messages of one key: with whom they are, how many are out, and the first that waits."""

    __slots__ = ("due", "head", "member", "out")

    def __init__(
        self, member: int | None = None, out: int = 0, head: int | None = None, due: float | None = None
    ) -> None:
        self.member = member
        self.out = out
        self.head = head
        """Row number of the first entry that waits, and when it is due; None: nothing waits."""
        self.due = due

    def put(self, seq: int, due: float) -> None:
        """One more waits."""
        if self.head is None or seq <= self.head:
            self.head, self.due = seq, due


class Lanes:
    """The lanes that one transaction touches."""

    def __init__(self, db: sqlite3.Connection, group: int) -> None:
        self._db = db
        self._group = group
        self._touched: dict[str | bytes, Lane] = {}

    def get(self, key: str | bytes) -> Lane:
        """Return the lane of a key, a new one when there is none."""
        lane = self._touched.get(key)
        if lane is None:
            row = self._db.execute(
                "SELECT member, out, head, due FROM unimsg_lanes WHERE grp = ? AND key = ?",
                (self._group, key),
            ).fetchone()
            lane = self._touched[key] = Lane(*row) if row else Lane()
        return lane

    def load(self, keys: Iterable[str | bytes | None]) -> None:
        """Read the lanes of these keys at once: `get` would ask for each, which costs more than all the rest."""
        wanted = list({key for key in keys if key is not None and key not in self._touched})
        if not wanted:
            return
        marks = ", ".join("?" * len(wanted))
        rows = self._db.execute(
            f"SELECT key, member, out, head, due FROM unimsg_lanes WHERE grp = ? AND key IN ({marks})",  # noqa: S608 - marks
            (self._group, *wanted),
        )
        found = {row[0]: row[1:] for row in rows}
        for key in wanted:
            self._touched[key] = Lane(*found.get(key, ()))

    def waiting(self, member: int, room: int, most: int, now: float) -> list[str | bytes]:
        """Return the keys of lanes whose head a member may have now."""
        rows = self._db.execute(
            "SELECT key FROM unimsg_lanes WHERE grp = ? AND head IS NOT NULL AND due <= ? "
            "AND (out = 0 OR (member = ? AND out < ?)) ORDER BY head LIMIT ?",
            (self._group, now, member, room, most),
        )
        return [row[0] for row in rows]

    @property
    def waits(self) -> bool:
        """Whether anything waits in a lane that was touched."""
        return any(lane.head is not None for lane in self._touched.values())

    def save(self) -> None:
        """Write what was touched."""
        self._db.executemany(
            "INSERT OR REPLACE INTO unimsg_lanes VALUES (?, ?, ?, ?, ?, ?)",
            [
                (self._group, key, lane.member if lane.out else None, lane.out, lane.head, lane.due)
                for key, lane in self._touched.items()
                if lane.out or lane.head is not None
            ],
        )
        self._delete(key for key, lane in self._touched.items() if not lane.out and lane.head is None)

    def _delete(self, keys: Iterable[str | bytes]) -> None:
        self._db.executemany(
            "DELETE FROM unimsg_lanes WHERE grp = ? AND key = ?", [(self._group, key) for key in keys]
        )
