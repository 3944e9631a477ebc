"""Handlers that most sections want: one that writes down what it was given, one that fails by chance.

Law: for the tests of this package; it knows the public API, no backend.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import unimsg
from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.errors import Error, UnavailableError
from unimsg.testing.conformance.world import PATIENCE, eventually

LOSS = 0.1
"""The share of handler calls, and of settlements, that fail in the lossy tests."""


class Seen:
    """What a handler was given, in order."""

    def __init__(self) -> None:
        self.all: list[Delivery[Any]] = []
        self._tries: list[tuple[Any, int]] = []

    def note(self, delivery: Delivery[Any]) -> None:
        """Write down a call; the attempt is that of this moment."""
        self.all.append(delivery)
        self._tries.append((delivery.body, delivery.attempt))

    async def handle(self, delivery: Delivery[Any]) -> None:
        """Handle one; it is acked."""
        self.note(delivery)

    def attempts(self, body: Any) -> list[int]:
        """The attempts that were made with a body, in order."""
        return [attempt for known, attempt in self._tries if known == body]

    async def times(self, count: int) -> None:
        """Return when it was called so often."""
        await eventually(lambda: len(self.all) >= count, f"the handler is called {count} times")


class Lossy:
    """A handler that fails by chance, and settlements that do."""

    def __init__(self, chance: Random, count: int) -> None:
        self.done: set[Any] = set()
        self.failed = 0
        self._chance = chance
        self._wanted = set(range(count))

    async def __call__(self, delivery: Delivery[Any]) -> None:
        """Fail, or be done."""
        await asyncio.sleep(0)
        if self._chance.random() < LOSS:
            self.failed += 1
            raise unimsg.Fail("by chance")
        self.done.add(delivery.body)

    def settlement(self, _: int, __: Any) -> Error | None:
        """Refuse one for now, or let it through."""
        return UnavailableError("by chance") if self._chance.random() < LOSS else None

    async def all_done(self) -> None:
        """Return when each message was handled once at least."""
        await eventually(lambda: self.done == self._wanted, "every message is handled")


async def publish(client: Client, destination: str, count: int, *, start: int = 0) -> None:
    """Publish so many numbers, each with a key of its own."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            *(client.publish(destination, n, key=f"k{n}") for n in range(start, start + count))
        )
