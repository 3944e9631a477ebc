"""Members: which destinations, groups and members there are, and who may move a group.

Law: statements inside a transaction; a member that was not seen for a lease is gone, whatever became of it.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Literal

from unimsg.backends.sqlite.group import Group
from unimsg.backends.sqlite.log import Log, Rules
from unimsg.backends.sqlite.take import Haul, Turn
from unimsg.errors import BackendError, OptionError
from unimsg.message import Position
from unimsg.spi import Start

NAME = "sqlite"


def destination(db: sqlite3.Connection, name: str, *, create: bool) -> tuple[int | None, bool]:
    """Return the number of a destination and whether it was made just now; None: there is none."""
    row = db.execute("SELECT id FROM unimsg_destinations WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return row[0], False
    if not create:
        return None, False
    return db.execute("INSERT INTO unimsg_destinations (name) VALUES (?)", (name,)).lastrowid, True


def join(db: sqlite3.Connection, log: Log, name: str, start: Start, now: float) -> tuple[Group, int]:
    """Return a group, which begins at `start` if it is new, and the number of a new member of it."""
    number = _group(db, log, name)
    if number is None:
        number = _new_group(db, log, name, offset(db, log, start))
    member = db.execute("INSERT INTO unimsg_members (grp, seen) VALUES (?, ?)", (number, now)).lastrowid
    return Group(number, log), int(member or 0)


def provide_group(
    db: sqlite3.Connection, rules: Rules, where: str, name: str, mode: str
) -> Literal["present", "created", "missing"]:
    """Bring a group into being that begins at the oldest message, or say that it is missing."""
    number, _ = destination(db, where, create=False)
    if number is None:
        return "missing"
    log = Log(number, where, rules)
    if _group(db, log, name) is not None:
        return "present"
    if mode != "ensure":
        return "missing"
    _new_group(db, log, name, log.oldest(db))
    return "created"


def take(db: sqlite3.Connection, group: Group, *, member: int, room: int, most: int, now: float) -> Haul:
    """Lease messages to a member, and note that it lives."""
    db.execute(
        "UPDATE unimsg_members SET seen = ? WHERE id = ? AND seen < ?",
        (now, member, now - group.log.rules.lease / 4),
    )
    return Turn(db, group, member=member, room=room, most=most, now=now).take()


def seek(db: sqlite3.Connection, group: Group, member: int, start: Start, now: float) -> None:
    """Move a group; refused while other members live."""
    others = db.execute(
        "SELECT count(*) FROM unimsg_members WHERE grp = ? AND id <> ? AND seen > ?",
        (group.number, member, now - group.log.rules.lease),
    ).fetchone()[0]
    if others:
        raise BackendError(
            f"the group has {others} other live members: stop them first",
            backend=NAME,
            destination=group.log.name,
        )
    group.seek(db, offset(db, group.log, start))


def leave(db: sqlite3.Connection, group: Group, member: int, now: float, *, abort: bool) -> None:
    """A member is gone; unless it is aborted, what it has out goes back."""
    if not abort:
        group.give_back(db, member, now)
    db.execute(
        "DELETE FROM unimsg_members WHERE id = ? OR (grp = ? AND seen < ?)",
        (
            member,
            group.number,
            now - 10 * group.log.rules.lease,
        ),
    )


def forget(db: sqlite3.Connection, where: str, name: str) -> None:
    """Delete a group with all that is noted of it; nothing is kept for it any more."""
    row = db.execute(
        "SELECT g.id FROM unimsg_groups g JOIN unimsg_destinations d ON d.id = g.destination "
        "WHERE d.name = ? AND g.name = ?",
        (where, name),
    ).fetchone()
    if row is not None:
        for table in ("entries", "lanes", "members"):
            db.execute(f"DELETE FROM unimsg_{table} WHERE grp = ?", row)  # noqa: S608 - our own words
        db.execute("DELETE FROM unimsg_groups WHERE id = ?", row)


def offset(db: sqlite3.Connection, log: Log, start: Start) -> int:
    """Return the offset that a start means."""
    if start == "oldest":
        return log.oldest(db)
    if start == "newest":
        return log.next(db)
    if isinstance(start, datetime):
        return log.find(db, start.timestamp())
    if not isinstance(start, Position) or start.partition != log.name or not isinstance(start.offset, int):
        raise OptionError(
            f"start={start} is no position in this destination", backend=NAME, destination=log.name
        )
    return min(max(start.offset, log.oldest(db)), log.next(db))


def _group(db: sqlite3.Connection, log: Log, name: str) -> int | None:
    row = db.execute(
        "SELECT id FROM unimsg_groups WHERE destination = ? AND name = ?", (log.number, name)
    ).fetchone()
    return None if row is None else row[0]


def _new_group(db: sqlite3.Connection, log: Log, name: str, start: int) -> int:
    made = db.execute(
        "INSERT INTO unimsg_groups (destination, name, next) VALUES (?, ?, ?)", (log.number, name, start)
    ).lastrowid
    return int(made or 0)
