"""Store: where it is written down what was done, by (scope, key); the contract that every store keeps.

Law: types, and the lifetime that all stores share; no I/O, no decision. A store is one file: it subclasses `Store`,
and `unimsg.testing.conformance.stores.StoreCatalogue` proves it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Literal, Self, TypeAlias

from msgspec import Struct

from unimsg.errors import ConfigError, StoreUnavailableError

State: TypeAlias = Literal["acquired", "in_progress", "completed", "failed", "reused"]
End: TypeAlias = Literal["failed", "dead", "returned"]
"""How a claim is given back: `failed` counts as an attempt, `returned` does not, `dead` is final."""


class Ask(Struct, frozen=True, gc=False):
    """A claim that is asked for.

    Attributes:
        scope: whose keys these are: what one handler did says nothing about another.
        key: the identity of the effect.
        fingerprint: of the payload; None: not compared.
        redrive: how often the message was given back by hand; a higher number than the row's opens a failed row.
    """

    scope: str
    key: str
    fingerprint: bytes | None = None
    redrive: int = 0


class Answer(Struct, frozen=True, gc=False):
    """What became of one claim.

    Attributes:
        state: `acquired`: the claim is made; `in_progress`: somebody has it; `completed`, `failed`: it is over;
            `reused`: the row was made with another fingerprint, which goes before all others.
        token: with `acquired` the new fencing token, with `in_progress` that of the holder.
        attempts: executions before this one, with `acquired`: failed ones, and ones whose claim ran out.
        remaining: seconds until the claim of the holder ends, with `in_progress`.
        outcome: what was given to `complete`, with `completed`.
    """

    state: State
    token: int = 0
    attempts: int = 0
    remaining: float = 0.0
    outcome: bytes | None = None


class Grip(Struct, frozen=True, gc=False):
    """A claim that somebody has."""

    scope: str
    key: str
    token: int


class Store(ABC):
    """Rows by (scope, key), shared by any number of handlers; at most one live token for each.

    A subclass does one thing: a batch in one round trip, atomic for each key, answered in order.

    - Tokens strictly increase for each key: across release, across the end of a claim, and after the row is gone.
    - A row lives until its ttl has passed since it was last claimed, completed or released, and as long as a claim is
      renewed; attempts live with it. Past that it is as if it had never been, removed or not.
    - `renew`, `complete` and `release` answer True only for the current token. Repeating one that was carried out is
      True again and changes nothing, since an answer can be lost.
    - A call that cannot be answered raises `StoreUnavailableError`; `claim` may also put it in the place of single
      answers. A claim whose call was cancelled is given back, or was never made.
    - Time is the store's own where it has a clock.

    It is opened by its first user and closed by its last: handlers while a loop runs them, calls while they run, and
    `async with store` around both. One event loop at a time.
    """

    shared: ClassVar[bool] = True
    """Whether other processes see the same rows; False: no call ever waits, either."""

    _users = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _opening: asyncio.Lock

    # ------------------------------------------------------------ what a store does

    async def open(self) -> None:  # noqa: B027 - a store that has nothing to open need not say so
        """Make one attempt to reach the store, and make what it needs. Raises StoreUnavailableError, ConfigError."""

    async def close(self) -> None:  # noqa: B027 - as above
        """Let go of it; claims still held run out by themselves."""

    @abstractmethod
    async def claim(
        self, asks: Sequence[Ask], /, *, lock: float, ttl: float
    ) -> Sequence[Answer | StoreUnavailableError]:
        """Claim each for `lock` seconds; of one key asked for twice, the second finds the first."""

    @abstractmethod
    async def renew(self, grips: Sequence[Grip], /, *, lock: float) -> Sequence[bool]:
        """Prolong each to `lock` seconds from now."""

    @abstractmethod
    async def complete(
        self, grips: Sequence[Grip], outcomes: Sequence[bytes | None], /, *, ttl: float
    ) -> Sequence[bool]:
        """Write down that it is done, with what came of it."""

    @abstractmethod
    async def release(self, grips: Sequence[Grip], ends: Sequence[End], /, *, ttl: float) -> Sequence[bool]:
        """Give each back: the row stays, with its token and its attempts."""

    async def purge(self, limit: int = 1000, /) -> int:  # noqa: ARG002 - for stores that have to
        """Remove rows past their ttl, `limit` at most, and return how many; stores that do so alone return 0."""
        return 0

    # ------------------------------------------------------------ who uses it

    def join(self, loop: asyncio.AbstractEventLoop, /) -> bool:
        """Become one more of its users, if it has some on this loop; `leave` or `__aexit__` ends that."""
        if self._users and self._loop is loop:
            self._users += 1
            return True
        return False

    def leave(self) -> bool:
        """Be no user any more, unless the last one: that one has to close it, by `__aexit__`."""
        if self._users > 1:
            self._users -= 1
            return True
        return False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self.join(loop):
            return self
        if self._loop is not loop:
            if self._users and self._loop is not None and not self._loop.is_closed():
                raise ConfigError(f"{self!r} is open on another event loop: make a store for each")
            self._users, self._loop, self._opening = 0, loop, asyncio.Lock()
        async with self._opening:
            if not self._users:
                await self.open()
            self._users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if not self._users:
            async with self._opening:
                if not self._users:  # nobody came in while the lock was awaited
                    await self.close()
