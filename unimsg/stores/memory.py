"""memory: rows in this process; `memory://` is private to its store, `memory://name` shared.

Law: check and set with no wait in between. It is bounded: when it is full of rows that still count it says so, rather
than forget one and let its effect happen twice.
"""

from __future__ import annotations

import threading
from asyncio import get_running_loop
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import repeat
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, unquote

from unimsg.errors import OptionError, StoreUnavailableError
from unimsg.idempotency.row import Row
from unimsg.idempotency.store import Answer, Ask, End, Grip, Store
from unimsg.options import Address, Range

SWEEP = 2
"""Rows past their end that one claim removes at most: more than it adds, so the memory follows what counts."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(Address):
    """What a URL of this store can say.

    Attributes:
        name: stores of one name share their rows in this process; without one they are private.
        keys: the most rows; beyond, claims wait as for a store that is down until a row's ttl has passed.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"name"})

    scheme: str = "memory"
    name: str = ""
    keys: Annotated[int, Range(1)] = 1_000_000

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the name."""
        name = where.removesuffix("/")
        if "/" in name or "@" in name:
            raise OptionError(f"{scheme}:// takes one name without / or @, as in {scheme}://tests")
        return {"name": unquote(name)}

    def where(self, *, secrets: bool) -> str:  # noqa: ARG002 - it has none
        """Return the name."""
        return quote(self.name, safe="")


class MemoryStore(Store):
    """Rows in a dict.

    Args:
        options: of its URL.
        clock: seconds, from anywhere on; the running event loop's time unless given.
    """

    shared = False

    def __init__(self, options: Options, clock: Callable[[], float] | None = None) -> None:
        self._options = options
        self._most = options.keys
        self._clock = clock
        self._table = _table(options.name)

    def __repr__(self) -> str:
        return f"<MemoryStore {self._options.name}>".replace(" >", ">")

    def __len__(self) -> int:
        """How many rows there are, some of them perhaps past their end."""
        return len(self._table.rows)

    def _now(self) -> float:
        return (self._clock or get_running_loop().time)()

    async def claim(self, asks: Sequence[Ask], /, *, lock: float, ttl: float) -> Sequence[Answer]:
        """See `Store.claim`; raises StoreUnavailableError when it is full, and then nothing was claimed."""
        now, table = self._now(), self._table
        with table.lock:
            if len(table.rows) + len(asks) > self._most:
                table.make_room(asks, self._most, now)
            if len(asks) == 1:  # what a plain call asks for
                return (table.claim(asks[0], lock, ttl, now),)
            return [table.claim(ask, lock, ttl, now) for ask in asks]

    async def renew(self, grips: Sequence[Grip], /, *, lock: float) -> Sequence[bool]:
        """See `Store.renew`."""
        now, table = self._now(), self._table
        with table.lock:
            return [table.row(grip).renew(grip.token, lock=lock, now=now) for grip in grips]

    async def complete(
        self, grips: Sequence[Grip], outcomes: Sequence[bytes | None], /, *, ttl: float
    ) -> Sequence[bool]:
        """See `Store.complete`."""
        now, table = self._now(), self._table
        with table.lock:
            if len(grips) == 1:
                return (table.row(grips[0]).complete(grips[0].token, outcomes[0], ttl=ttl, now=now),)
            return [
                table.row(grip).complete(grip.token, outcome, ttl=ttl, now=now)
                for grip, outcome in zip(grips, outcomes, strict=True)
            ]

    async def release(self, grips: Sequence[Grip], ends: Sequence[End], /, *, ttl: float) -> Sequence[bool]:
        """See `Store.release`."""
        now, table = self._now(), self._table
        with table.lock:
            return [
                table.row(grip).release(grip.token, end, ttl=ttl, now=now)
                for grip, end in zip(grips, ends, strict=True)
            ]

    async def purge(self, limit: int = 1000, /) -> int:
        """See `Store.purge`."""
        with self._table.lock:
            return self._table.sweep(limit, self._now())


class _Table:
    """The rows, and when they end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # stores of one name may live in several threads, each with its own loop
        self.rows: dict[tuple[str, str], Row] = {}
        self._ends: list[tuple[float, tuple[str, str]]] = []  # a heap; what is first may end later by now
        self._token = 0

    def row(self, grip: Grip) -> Row:
        return self.rows.get((grip.scope, grip.key)) or Row()

    def claim(self, ask: Ask, lock: float, ttl: float, now: float) -> Answer:
        at = (ask.scope, ask.key)
        row = self.rows.get(at)
        if row is None:
            if self._ends and self._ends[0][0] <= now:
                self.sweep(SWEEP, now)
            row = self.rows[at] = Row()
            heappush(self._ends, (now + ttl, at))
        answer = row.claim(ask, token=self._token + 1, lock=lock, ttl=ttl, now=now)
        if answer.state == "acquired":
            self._token += 1
        return answer

    def sweep(self, limit: int, now: float) -> int:
        """Remove rows past their end."""
        ends, rows, removed = self._ends, self.rows, 0
        for _ in repeat(None, limit):
            if not ends or ends[0][0] > now:
                break
            _, at = heappop(ends)
            if rows[at].ends <= now:
                del rows[at]
                removed += 1
            else:
                heappush(ends, (rows[at].ends, at))
        return removed

    def make_room(self, asks: Sequence[Ask], keys: int, now: float) -> None:
        wanted = len({(ask.scope, ask.key) for ask in asks}.difference(self.rows))
        while wanted and len(self.rows) + wanted > keys:
            if not self._ends or self._ends[0][0] > now:
                raise StoreUnavailableError(
                    f"the memory store holds {len(self.rows)} keys of at most {keys}: "
                    "shorten ttl=, allow more with ?keys=, or take a store on disk"
                )
            self.sweep(wanted, now)


_named: dict[str, _Table] = {}
_naming = threading.Lock()


def _table(name: str) -> _Table:
    if not name:
        return _Table()
    with _naming:
        return _named.setdefault(name, _Table())


def forget(name: str) -> None:
    """Drop the rows of a named store, for stores made from now on; for tests."""
    with _naming:
        _named.pop(name, None)


def build(options: Options) -> MemoryStore:
    """Return the store of these options."""
    return MemoryStore(options)
