"""Sequences: numbered messages under several keys, how they are checked, and what tries to bring them out of order.

Law: for the tests of this package; it knows the public API and the fault injection, no backend.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.errors import NotSentError
from unimsg.message import Message
from unimsg.testing.conformance.world import PATIENCE, eventually
from unimsg.testing.faults import Faults


class Sequences:
    """Numbered messages of several keys, and a handler that writes down their effects.

    Attributes:
        effects: key and number, in the order in which handlers ended well, repetitions included.
        overlaps: keys of which two handlers ran at the same time in one consumer.
    """

    def __init__(self, keys: int, length: int) -> None:
        self.keys = [f"key-{number}" for number in range(keys)]
        self.length = length
        self.effects: list[tuple[str, int]] = []
        self.overlaps: list[str] = []

    def messages(self) -> list[Message[Any]]:
        """All of them, key after key in turn; an id says nothing about the order."""
        return [
            Message(body={"key": key, "number": number}, key=key)
            for number in range(self.length)
            for key in self.keys
        ]

    def handler(
        self, before: Callable[[Delivery[Any]], Awaitable[None]] | None = None
    ) -> Callable[[Delivery[Any]], Awaitable[None]]:
        """Return a handler for one consumer; `before` may raise instead of an effect."""
        running: Counter[str] = Counter()

        async def handle(delivery: Delivery[Any]) -> None:
            key, number = str(delivery.body["key"]), int(delivery.body["number"])
            running[key] += 1
            try:
                if running[key] > 1:
                    self.overlaps.append(key)
                for _ in range((number * 7 + len(self.effects)) % 5):  # so that what may overtake does
                    await asyncio.sleep(0)
                if before is not None:
                    await before(delivery)
                self.effects.append((key, number))
            finally:
                running[key] -= 1

        return handle

    @property
    def complete(self) -> bool:
        """Whether each message had its effect."""
        return len(set(self.effects)) == len(self.keys) * self.length

    async def all_done(self) -> None:
        """Return when each message had its effect."""
        await eventually(lambda: self.complete, "each message of each key is handled")

    def numbers(self, key: str) -> list[int]:
        """The first effects of a key, in order."""
        return list(dict.fromkeys(number for known, number in self.effects if known == key))

    def verify(self) -> None:
        """Each key is whole and in order, and no two of a key ran at once."""
        for key in self.keys:
            assert self.numbers(key) == list(range(self.length)), f"{key}: {self.numbers(key)}"
        assert self.overlaps == [], f"two of a key at once: {self.overlaps}"


async def publish_all(client: Client, destination: str, messages: Sequence[Message[Any]]) -> None:
    """Publish them from one publisher, as fast as it goes."""
    await client.publisher(destination).publish_many(messages, timeout=PATIENCE)


def refusal() -> NotSentError:
    """Refused for now."""
    return NotSentError("refused by the test: send it again", retryable=True)


class Reordering(Faults):
    """Gives each answer of a receive the other way round."""

    async def meet(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call; turn what was received."""
        answer = await super().meet(operation, call)
        return answer[::-1] if operation == "receive" else answer


class LateRefusal(Faults):
    """Refuses the first send, but takes its time for that."""

    def __init__(self, delay: float) -> None:
        super().__init__()
        self._delay = delay

    async def meet_batch(
        self,
        operation: str,
        entries: Sequence[Any],
        call: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]],
    ) -> Sequence[Any]:
        """Make a call about several entries."""
        self.calls[operation] += 1
        if operation == "send" and self.calls[operation] == 1:
            await asyncio.sleep(self._delay)
            raise refusal()
        return await call(entries)
