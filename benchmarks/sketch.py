"""The bare sketch: fixed workers over one deque for each key, nothing else: the floor for the consuming loop.

Law: no leases, no retries, no context, no counters: what is here nobody could leave out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

BODY = b'{"id":7,"name":"abc","v":1.5}'
KEYS = 97
BATCH = 100


class Message:
    """What travels."""

    __slots__ = ("body", "headers", "id", "key")

    def __init__(self, body: bytes, key: int, headers: dict[str, str], id: str) -> None:  # noqa: A002 - the field's word
        self.body = body
        self.key = key
        self.headers = headers
        self.id = id


class Parcel:
    """A message as it was received."""

    __slots__ = ("attempt", "key", "lease", "message", "position", "token")

    def __init__(self, message: Message, key: int, token: int) -> None:
        self.message = message
        self.key = key
        self.token = token
        self.attempt = 1
        self.lease = 0.0
        self.position = token


class Handed:
    """What a handler gets."""

    __slots__ = ("attempt", "body", "message", "parcel", "position", "state")

    def __init__(self, parcel: Parcel, body: Any) -> None:
        self.parcel = parcel
        self.message = parcel.message
        self.body = body
        self.attempt = parcel.attempt
        self.position = parcel.position
        self.state = 0


class Sketch:
    """Consumes `messages` in order by key."""

    def __init__(self, messages: int, workers: int, prefetch: int = 1000) -> None:
        self.messages = messages
        self.workers = workers
        self.prefetch = prefetch
        self.ready: deque[deque[Parcel]] = deque()
        self.lanes: dict[int, deque[Parcel]] = {}
        self.idle: list[asyncio.Future[None]] = []
        self.in_hand = self.received = self.done = self.settled = 0
        self.tokens: list[int] = []

    async def run(self, handler: Callable[[Handed], Awaitable[None]]) -> None:
        """Return when all are handled."""
        self.need, self.finished = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(self._work(handler)) for _ in range(self.workers)]
        tasks.append(asyncio.create_task(self._pump()))
        await self.finished.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self) -> None:
        while self.received < self.messages:
            count = min(self.prefetch - self.in_hand, self.messages - self.received)
            for token in range(self.received, self.received + count):
                self._put(Parcel(Message(BODY, token % KEYS, {}, str(token)), token % KEYS, token))
            self.received += count
            for future in self.idle[: len(self.ready)]:
                if not future.done():
                    future.set_result(None)
            del self.idle[: len(self.ready)]
            self.need.clear()
            await self.need.wait()

    def _put(self, parcel: Parcel) -> None:
        self.in_hand += 1
        lane = self.lanes.get(parcel.key)
        if lane is None:
            self.lanes[parcel.key] = lane = deque((parcel,))
            self.ready.append(lane)
        else:
            lane.append(parcel)

    async def _work(self, handler: Callable[[Handed], Awaitable[None]]) -> None:
        decode, turns = msgspec.json.Decoder().decode, 0
        while True:
            if not self.ready:
                self.need.set()
                future = asyncio.get_running_loop().create_future()
                self.idle.append(future)
                await future
                continue
            lane = self.ready.popleft()
            parcel = lane.popleft()
            handed = Handed(parcel, decode(parcel.message.body))
            try:
                await handler(handed)
            except Exception as error:  # noqa: BLE001 - the least that a loop must do
                handed.body = error
            handed.state = 1
            self._settle(parcel, lane)
            turns += 1
            if not turns % 64:
                await asyncio.sleep(0)

    def _settle(self, parcel: Parcel, lane: deque[Parcel]) -> None:
        self.tokens.append(parcel.token)
        if len(self.tokens) >= BATCH:
            self.settled += len(self.tokens)
            self.tokens = []
        if lane:
            self.ready.append(lane)
        else:
            del self.lanes[parcel.key]
        self.in_hand -= 1
        self.done += 1
        if self.in_hand < self.prefetch // 2:
            self.need.set()
        if self.done == self.messages:
            self.finished.set()
