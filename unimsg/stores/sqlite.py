"""sqlite: rows in a file that all processes of a machine share; it may be the file of the broker, too.

Law: a batch is one transaction on the thread that has the connection, shared with what else waits at that moment. What
becomes of a row is decided by `unimsg.idempotency.row`, between reading and writing it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar
from urllib.parse import quote, unquote

from unimsg.errors import ClosedError, ConnectError, Error, OptionError, StoreUnavailableError
from unimsg.idempotency.row import Row
from unimsg.idempotency.store import Answer, Ask, End, Grip, Store
from unimsg.options import Address
from unimsg.sqlitefile.clock import Clock
from unimsg.sqlitefile.place import Part, Place
from unimsg.sqlitefile.writer import Writer

R = TypeVar("R")
At: TypeAlias = tuple[int, str]

SWEEP = 2
"""Rows that are looked at for each that is claimed, whether their ttl has passed: more than are added."""
MANY = 100
"""Keys in one SELECT: a statement for each number of them is kept."""

PART = Part(
    "idempotency",
    1,
    """
CREATE TABLE unimsg_keys (
    id INTEGER PRIMARY KEY, scope INTEGER NOT NULL, key TEXT NOT NULL,
    state INTEGER NOT NULL, token INTEGER NOT NULL, until REAL NOT NULL, ends REAL NOT NULL,
    attempts INTEGER NOT NULL, redrive INTEGER NOT NULL, fingerprint BLOB, outcome BLOB, UNIQUE (scope, key)
);
CREATE TABLE unimsg_scopes (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE unimsg_tokens (last INTEGER NOT NULL);
INSERT INTO unimsg_tokens VALUES (0);
""",
    cure="finish with the unimsg that made it, and let its keys run out",
)
READ = """
WITH wanted (scope, key) AS (VALUES {values})
SELECT k.scope, k.key, state, token, until, ends, attempts, redrive, fingerprint, outcome
FROM wanted CROSS JOIN unimsg_keys k ON k.scope = wanted.scope AND k.key = wanted.key"""
WRITE = """
INSERT INTO unimsg_keys (scope, key, state, token, until, ends, attempts, redrive, fingerprint, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (scope, key) DO UPDATE SET
state = excluded.state, token = excluded.token, until = excluded.until, ends = excluded.ends,
attempts = excluded.attempts, redrive = excluded.redrive, fingerprint = excluded.fingerprint,
outcome = excluded.outcome"""


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(Address):
    """What a URL of this store can say.

    Attributes:
        path: the file; relative to the working directory, or absolute.
        create: whether the file is made when it is missing.
        synchronous: what an answer survives: `FULL` a loss of power, `NORMAL` a kill of the process (after a loss of
            power the last moments can be missing: their effects may happen again), `OFF` neither for certain.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"path"})

    scheme: str = "sqlite"
    path: str = "seen.db"
    create: bool = True
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL"

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the path: what follows the third slash."""
        path = unquote(where[1:])
        if not where.startswith("/") or not path or path.endswith("/"):
            raise OptionError(
                f"{scheme}:// needs a file after a third slash: {scheme}:///relative.db or {scheme}:////absolute.db"
            )
        if path.startswith(":") or "\0" in path:
            raise OptionError(f"{scheme}:///{quote(path)} is no file: for rows in memory use memory://")
        return {"path": path}

    def where(self, *, secrets: bool) -> str:  # noqa: ARG002 - it has none
        """Return the path behind its slash."""
        return "/" + quote(self.path, safe="/")


@cache
def _scope(name: str) -> int:
    """The number of a scope: the same in every process, and a third shorter to write in each row than its name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


class SqliteStore(Store):
    """Rows in a table.

    Args:
        options: of its URL.
        clock: seconds since the epoch; the system's, as the event loop sees it, unless given.
    """

    def __init__(self, options: Options, clock: Callable[[], float] | None = None) -> None:
        self._options = options
        self._clock = clock
        self._writer: Writer | None = None
        self._now: Callable[[], float] = clock or time.time
        self._swept = 0
        self._named: set[str] = set()

    def __repr__(self) -> str:
        return f"<SqliteStore {self._options.path}>"

    async def open(self) -> None:
        """Open the file; see `Store.open`."""
        options = self._options
        self._now = self._clock or Clock().now
        place = Place(options.path, PART, create=options.create, synchronous=options.synchronous)
        writer = Writer(place)
        try:
            await writer.open()
        except ConnectError as error:
            raise StoreUnavailableError(error.sentence) from error
        self._writer = writer

    async def close(self) -> None:
        """Finish what was asked and close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.aclose()

    async def claim(self, asks: Sequence[Ask], /, *, lock: float, ttl: float) -> Sequence[Answer]:
        """See `Store.claim`."""
        now = self._now
        answering = self._submit(lambda connection: self._claim(connection, asks, lock, ttl, now()))
        try:
            return await _answered(answering)
        except asyncio.CancelledError:
            answering.add_done_callback(lambda done: self._give_back(done, asks, ttl))
            raise

    def _claim(
        self, connection: sqlite3.Connection, asks: Sequence[Ask], lock: float, ttl: float, now: float
    ) -> list[Answer]:
        rows = _read(connection, {(_scope(ask.scope), ask.key) for ask in asks})
        (last,) = connection.execute("SELECT last FROM unimsg_tokens").fetchone()
        answers, token, changed = [], last, dict[At, Row]()
        for ask in asks:
            at = (_scope(ask.scope), ask.key)
            row = rows.get(at)
            if row is None:
                row = rows[at] = Row()
            answer = row.claim(ask, token=token + 1, lock=lock, ttl=ttl, now=now)
            if answer.state == "acquired":
                token += 1
                changed[at] = row
            answers.append(answer)
        if changed:
            connection.execute("UPDATE unimsg_tokens SET last = ?", (token,))
            _write(connection, changed)
            self._name(connection, {ask.scope for ask in asks})
            self._sweep(connection, SWEEP * len(changed), now)
        return answers

    def _give_back(self, done: asyncio.Future[list[Answer]], asks: Sequence[Ask], ttl: float) -> None:
        """Nobody waits for these claims any more."""
        if done.cancelled() or done.exception() is not None or self._writer is None:
            return
        pairs = zip(asks, done.result(), strict=True)
        grips = [Grip(ask.scope, ask.key, got.token) for ask, got in pairs if got.state == "acquired"]
        if grips:
            self._change(
                grips, lambda row, n, now: row.release(grips[n].token, "returned", ttl=ttl, now=now)
            ).add_done_callback(_heard)

    async def renew(self, grips: Sequence[Grip], /, *, lock: float) -> Sequence[bool]:
        """See `Store.renew`."""
        return await _answered(
            self._change(grips, lambda row, n, now: row.renew(grips[n].token, lock=lock, now=now))
        )

    async def complete(
        self, grips: Sequence[Grip], outcomes: Sequence[bytes | None], /, *, ttl: float
    ) -> Sequence[bool]:
        """See `Store.complete`."""
        return await _answered(
            self._change(
                grips, lambda row, n, now: row.complete(grips[n].token, outcomes[n], ttl=ttl, now=now)
            )
        )

    async def release(self, grips: Sequence[Grip], ends: Sequence[End], /, *, ttl: float) -> Sequence[bool]:
        """See `Store.release`."""
        return await _answered(
            self._change(grips, lambda row, n, now: row.release(grips[n].token, ends[n], ttl=ttl, now=now))
        )

    async def purge(self, limit: int = 1000, /) -> int:
        """See `Store.purge`."""
        now = self._now
        return await _answered(self._submit(lambda connection: _purge(connection, limit, now())))

    def _change(
        self, grips: Sequence[Grip], change: Callable[[Row, int, float], bool]
    ) -> asyncio.Future[list[bool]]:
        now = self._now

        def work(connection: sqlite3.Connection) -> list[bool]:
            rows, moment = _read(connection, {(_scope(grip.scope), grip.key) for grip in grips}), now()
            changed, results = dict[At, Row](), list[bool]()
            for number, grip in enumerate(grips):
                at = (_scope(grip.scope), grip.key)
                row = rows.get(at)
                current = row is not None and change(row, number, moment)
                if row is not None and current:
                    changed[at] = row
                results.append(current)
            _write(connection, changed)
            return results

        return self._submit(work)

    def _submit(self, work: Callable[[sqlite3.Connection], R]) -> asyncio.Future[R]:
        if self._writer is None:
            raise ClosedError(f"{self!r} is not open: use it within `async with store`")
        return self._writer.submit(work)

    def _name(self, connection: sqlite3.Connection, scopes: set[str]) -> None:
        """Write scopes down by name once, for people who look into the file."""
        for scope in scopes - self._named:
            connection.execute("INSERT OR IGNORE INTO unimsg_scopes VALUES (?, ?)", (_scope(scope), scope))
        self._named |= scopes

    def _sweep(self, connection: sqlite3.Connection, count: int, now: float) -> None:
        """Remove what is past its ttl among the next rows, in the order in which they were made; and round again."""
        (last,) = connection.execute("SELECT max(id) FROM unimsg_keys").fetchone()
        first = self._swept if self._swept < last else 0
        self._swept = first + count
        connection.execute(
            "DELETE FROM unimsg_keys WHERE id > ? AND id <= ? AND ends <= ?", (first, self._swept, now)
        )


async def _answered(answering: asyncio.Future[R]) -> R:
    """Wait for the thread; what was asked is carried out, also when nobody waits any more."""
    try:
        return await asyncio.shield(answering)
    except (sqlite3.Error, Error) as error:
        sentence = error.sentence if isinstance(error, Error) else str(error)
        raise StoreUnavailableError(f"the file of the store cannot be used: {sentence}") from error


def _heard(done: asyncio.Future[Any]) -> None:
    """What cannot be given back runs out by itself."""
    if not done.cancelled():
        done.exception()


def _read(connection: sqlite3.Connection, wanted: Iterable[At]) -> dict[At, Row]:
    at, found = list(wanted), dict[At, Row]()
    for first in range(0, len(at), MANY):
        some = at[first : first + MANY]
        statement = READ.format(values=", ".join(["(?, ?)"] * len(some)))
        for scope, key, *row in connection.execute(statement, [part for pair in some for part in pair]):
            found[scope, key] = Row(*row)
    return found


def _write(connection: sqlite3.Connection, rows: Mapping[At, Row]) -> None:
    connection.executemany(
        WRITE,
        [
            (*at, r.state, r.token, r.until, r.ends, r.attempts, r.redrive, r.fingerprint, r.outcome)
            for at, r in rows.items()
        ],
    )


def _purge(connection: sqlite3.Connection, limit: int, now: float) -> int:
    return connection.execute(
        "DELETE FROM unimsg_keys WHERE id IN (SELECT id FROM unimsg_keys WHERE ends <= ? LIMIT ?)",
        (now, limit),
    ).rowcount


def build(options: Options) -> SqliteStore:
    """Return the store of these options."""
    return SqliteStore(options)
