"""What every part of the store catalogue begins with: the fixtures, time, and short words for the calls.

Law: a store under test is known by one fixture, `stores`, that makes any number of them on the same rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import ClassVar, Protocol, Self

import pytest

from unimsg.idempotency.store import Answer, Ask, End, Grip, Store
from unimsg.testing.clock import ManualClock

CASES = range(1, 51)
"""The numbers that stand in the docstrings; a test of the package's own sees that none is missing."""


PATIENCE = 30.0
"""Seconds after which a test has hung; nothing is proved by how long something took."""


async def until(condition: Callable[[], object]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.001)


class Time(Protocol):
    """What tests let pass."""

    async def advance(self, seconds: float, /) -> None:
        """Let time pass for the store."""


class RealTime:
    """For a store with a clock of its own: time passes by waiting."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def advance(self, seconds: float, /) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class OnStore:
    """Fixtures and words.

    Attributes:
        turned: whether the store's time follows the event loop's, so that a test can turn it; else it waits.
    """

    turned: ClassVar[bool] = True

    @pytest.fixture
    def stores(self) -> Callable[[], Store]:
        """A function that returns a new store on the same rows at each call."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, stores: Callable[[], Store]) -> AsyncIterator[Store]:
        """One of them, open."""
        async with stores() as store:
            yield store

    @pytest.fixture
    async def clock(self) -> AsyncIterator[Time]:
        """How time passes."""
        async with ManualClock() if self.turned else RealTime() as clock:
            yield clock

    @property
    def lock(self) -> float:
        """Seconds of a claim."""
        return 30.0 if self.turned else 0.4

    @property
    def ttl(self) -> float:
        """Seconds of a row."""
        return 3600.0 if self.turned else 1.2

    async def ask(
        self,
        store: Store,
        key: str,
        *,
        fingerprint: bytes | None = None,
        redrive: int = 0,
        scope: str = "scope",
    ) -> Answer:
        """Claim one key."""
        (answer,) = await self.ask_all(store, [Ask(scope, key, fingerprint, redrive)])
        return answer

    async def ask_all(self, store: Store, asks: Sequence[Ask]) -> list[Answer]:
        """Claim many in one call; here no answer may be an error."""
        answers = list[Answer]()
        for answer in await store.claim(asks, lock=self.lock, ttl=self.ttl):
            assert isinstance(answer, Answer)
            answers.append(answer)
        assert len(answers) == len(asks)
        return answers

    async def take(self, store: Store, key: str, *, scope: str = "scope") -> Grip:
        """Claim a key that must be free."""
        answer = await self.ask(store, key, scope=scope)
        assert answer.state == "acquired", answer
        return Grip(scope, key, answer.token)

    async def complete(self, store: Store, grip: Grip, outcome: bytes | None = None) -> bool:
        """Complete one."""
        (current,) = await store.complete([grip], [outcome], ttl=self.ttl)
        return current

    async def release(self, store: Store, grip: Grip, end: End = "failed") -> bool:
        """Release one."""
        (current,) = await store.release([grip], [end], ttl=self.ttl)
        return current

    async def renew(self, store: Store, grip: Grip) -> bool:
        """Renew one."""
        (current,) = await store.renew([grip], lock=self.lock)
        return current
