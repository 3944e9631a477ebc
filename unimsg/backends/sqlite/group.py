"""Group: one position in a log, shared by members that compete, in any number of processes: leases, lanes, delays.

Law: statements inside a transaction that the writer has begun; no clock of its own. One message of a key is never with
two members; a lane with a message out stays with that member, its next wait for it. What comes back goes before what
is new. A message has an entry from when it is first looked at until it is done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from unimsg.backends.sqlite.file import BITS
from unimsg.backends.sqlite.lane import Lanes
from unimsg.backends.sqlite.log import MASK, Log
from unimsg.errors import Error, LeaseLostError

NOBODY = (0, None)
"""In place of a lease that is gone: no fence is 0."""


class Token(NamedTuple):
    """Names one delivery: the fence is never given twice."""

    seq: int
    fence: int


class Verdict(NamedTuple):
    """What is to become of a delivery: it is done, or it waits until `due`."""

    token: Token
    done: bool
    due: float = 0.0
    executions: int = 0
    first_failed: float | None = None


class Group:
    """The position, leases and lanes of one group."""

    def __init__(self, number: int, log: Log) -> None:
        self.number = number
        self.log = log
        self.base = number << BITS
        """The row number of the entry of offset 0."""

    def offset(self, token: Token) -> int:
        """Return the offset of what a token names."""
        return token.seq - self.base

    # ------------------------------------------------------------ back from a member

    def settle(
        self, db: sqlite3.Connection, verdicts: Sequence[Verdict], now: float
    ) -> tuple[list[Error | None], bool]:
        """Do what is asked for each; returns the results and whether something waits for a member now."""
        self.tick(db, now)
        lanes = Lanes(db, self.number)
        results: list[Error | None] = []
        done: list[tuple[int]] = []
        back: list[tuple[float, int, float | None, int]] = []
        leased = self._leased(db, [verdict.token.seq for verdict in verdicts])
        lanes.load(key for _, key in leased.values())
        for verdict in verdicts:
            token = verdict.token
            fence, key = leased.get(token.seq, NOBODY)
            if fence != token.fence:
                results.append(LeaseLostError("the lease is gone: settled already, or given to another"))
                continue
            del leased[token.seq]
            results.append(None)
            lane = lanes.get(key) if key is not None else None
            if lane is not None:
                lane.out -= 1
            if verdict.done:
                done.append((token.seq,))
                continue
            back.append((verdict.due, verdict.executions, verdict.first_failed, token.seq))
            if lane is not None:
                lane.put(token.seq, verdict.due)
        db.executemany("DELETE FROM unimsg_entries WHERE seq = ?", done)
        if back:
            db.executemany(
                "UPDATE unimsg_entries SET member = NULL, until = NULL, due = ?, attempts = ?, first_failed = ? "
                "WHERE seq = ?",
                back,
            )
        lanes.save()
        return results, bool(back) or lanes.waits

    def _leased(self, db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, tuple[int, Any]]:
        """Return fence and key of each of these entries that is out."""
        marks = ", ".join("?" * len(seqs))
        rows = db.execute(
            f"SELECT seq, fence, key FROM unimsg_entries WHERE member IS NOT NULL AND seq IN ({marks})",  # noqa: S608 - marks
            seqs,
        )
        return {seq: (fence, key) for seq, fence, key in rows}

    def extend(
        self, db: sqlite3.Connection, tokens: Sequence[Token], until: float, now: float
    ) -> list[Error | None]:
        """Let each lease end at `until`."""
        self.tick(db, now)
        results: list[Error | None] = []
        for token in tokens:
            changed = db.execute(
                "UPDATE unimsg_entries SET until = ? WHERE seq = ? AND fence = ? AND member IS NOT NULL",
                (until, *token),
            ).rowcount
            results.append(None if changed else LeaseLostError("the lease is gone: it cannot be extended"))
        return results

    def give_back(self, db: sqlite3.Connection, member: int, now: float) -> None:
        """A member leaves: what it has out goes back uncounted."""
        self._return(
            db,
            db.execute(
                "SELECT seq, key FROM unimsg_entries WHERE grp = ? AND member = ?", (self.number, member)
            ).fetchall(),
            now,
        )

    def tick(self, db: sqlite3.Connection, now: float) -> None:
        """Take back what has no lease any more, and what is out behind it in its lane: it would overtake."""
        ended = db.execute(
            "SELECT seq, key FROM unimsg_entries WHERE grp = ? AND member IS NOT NULL AND until <= ?",
            (self.number, now),
        ).fetchall()
        if not ended:
            return
        heads: dict[Any, int] = {}
        for seq, key in ended:
            if key is not None:
                heads[key] = min(seq, heads.get(key, seq))
        behind: list[tuple[int, Any]] = []
        if heads:
            out = db.execute(
                "SELECT seq, key FROM unimsg_entries WHERE grp = ? AND member IS NOT NULL AND until > ?",
                (self.number, now),
            )
            behind = [(seq, key) for seq, key in out if seq > heads.get(key, seq)]
        self._return(db, [*ended, *behind], now)

    def _return(self, db: sqlite3.Connection, rows: Iterable[tuple[int, Any]], now: float) -> None:
        lanes = Lanes(db, self.number)
        back: list[tuple[float, int]] = []
        for seq, key in rows:
            back.append((now, seq))
            if key is not None:
                lane = lanes.get(key)
                lane.out -= 1
                lane.put(seq, now)
        db.executemany("UPDATE unimsg_entries SET member = NULL, until = NULL, due = ? WHERE seq = ?", back)
        lanes.save()

    # ------------------------------------------------------------ the whole group

    def due(self, db: sqlite3.Connection, now: float) -> float | None:
        """Return when the next delay or lease ends."""
        found = db.execute(
            "SELECT min(due) FROM unimsg_entries WHERE grp = ?1 AND member IS NULL AND key IS NULL UNION ALL "
            "SELECT min(until) FROM unimsg_entries WHERE grp = ?1 AND member IS NOT NULL UNION ALL "
            "SELECT min(due) FROM unimsg_lanes WHERE grp = ?1 AND head IS NOT NULL AND due > ?2",
            (self.number, now),
        )
        return min((row[0] for row in found if row[0] is not None), default=None)

    def seek(self, db: sqlite3.Connection, start: int) -> None:
        """Begin again at an offset: all that is out or waits is forgotten."""
        db.execute("DELETE FROM unimsg_entries WHERE grp = ?", (self.number,))
        db.execute("DELETE FROM unimsg_lanes WHERE grp = ?", (self.number,))
        db.execute("UPDATE unimsg_groups SET next = ? WHERE id = ?", (start, self.number))

    def lag(self, db: sqlite3.Connection) -> int:
        """Return how many messages wait."""
        cursor = db.execute("SELECT next FROM unimsg_groups WHERE id = ?", (self.number,)).fetchone()[0]
        parked: int = db.execute(
            "SELECT count(*) FROM unimsg_entries WHERE seq BETWEEN ? AND ? AND member IS NULL",
            (self.base, self.base | MASK),
        ).fetchone()[0]
        return self.log.next(db) - int(cursor) + parked
