"""Load: what is asked of every contender on a broker, and how ours is asked for it.

Law: knows no service and no peer; those are the business of the modules that measure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import unimsg
from unimsg import codecs
from unimsg.message import Message

Run: TypeAlias = Callable[[], Awaitable[None]]
"""One round of one contender."""


class Tally:
    """Counts what came, up to a number."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._done = asyncio.Event()

    async def note(self, *_: Any) -> None:
        """One more came; a handler of whatever library."""
        self._left -= 1
        if not self._left:
            self._done.set()

    async def full(self) -> None:
        """Return when all have come."""
        await self._done.wait()


@dataclass(frozen=True)
class Load:
    """So many messages with this body, published by so many tasks at once."""

    messages: int
    tasks: int
    body: Any
    codec: Any = codecs.BYTES
    key: Callable[[int], str | None] = lambda _: None

    async def at_once(self, send: Callable[[int], Awaitable[object]], messages: int | None = None) -> None:
        """Send all, or the first of them, each by its number; a task sends the next when its last one is confirmed."""
        numbers = iter(range(messages or self.messages))

        async def work() -> None:
            for number in numbers:
                await send(number)

        await asyncio.gather(*(work() for _ in range(self.tasks)))

    def publish(self, url: str, destination: str) -> Run:
        """`publish`, awaited by each task."""

        async def run() -> None:
            async with unimsg.connect(url) as client:
                publisher = client.publisher(destination, codec=self.codec)
                await self.at_once(lambda number: publisher.publish(self.body, key=self.key(number)))

        return run

    def publish_many(self, url: str, destination: str) -> Run:
        """`publish_many` of all."""

        async def run() -> None:
            async with unimsg.connect(url) as client:
                publisher = client.publisher(destination, codec=self.codec)
                await publisher.publish_many(
                    Message(body=self.body, key=self.key(number)) for number in range(self.messages)
                )

        return run

    def drain(
        self,
        url: str,
        destination: str,
        groups: Iterator[str | None],
        *,
        concurrency: int = 64,
        **settings: Any,
    ) -> Run:
        """A handler, many workers; each round is another group, or another queue of that name."""

        async def run() -> None:
            tally = Tally(self.messages)
            async with unimsg.connect(url) as client:
                subscriber = client.subscriber(
                    destination, group=next(groups), codec=self.codec, concurrency=concurrency, **settings
                )
                running = asyncio.create_task(subscriber.run(tally.note))
                await tally.full()
                await subscriber.aclose()
                await running

        return run


class Turns:
    """Watches the loop: the most CPU time of its thread that one turn took, in milliseconds; waiting is not in it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()
        self._last = time.thread_time()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest, self._last = max(self.longest, (now - self._last) * 1000), now
        self._handle = self._loop.call_later(0, self._turn)

    def stop(self) -> float:
        """Return the longest turn."""
        self._handle.cancel()
        return self.longest


async def stalls(url: str, destination: str, group: str, *, size: int, messages: int) -> tuple[float, float]:
    """Publish and consume large bodies; returns the longest turn of each."""
    body, tally = bytes(size), Tally(messages + 1)
    async with unimsg.connect(url) as client:
        publisher = client.publisher(destination, codec=codecs.BYTES)
        await publisher.publish(b"")
        turns = Turns()
        await asyncio.gather(*(publisher.publish(body) for _ in range(messages)))
        out = turns.stop()
        subscriber, turns = client.subscriber(destination, group=group, codec=codecs.BYTES), Turns()
        running = asyncio.create_task(subscriber.run(tally.note))
        await tally.full()
        into = turns.stop()
        await subscriber.aclose()
        await running
    return out, into
