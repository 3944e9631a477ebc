"""A sender that does what a test scripts, and a publisher on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from unimsg.capabilities import Capabilities
from unimsg.codecs import BYTES, Codec
from unimsg.errors import Error
from unimsg.message import Receipt, WireMessage
from unimsg.publishing.publisher import Publisher
from unimsg.spi import Sender, SendLimits

Answer: TypeAlias = "Callable[[WireMessage, int], Receipt | Error]"
"""What one message gets, by how often it was sent."""


def confirm(message: WireMessage, _time: int) -> Receipt:
    """Take everything."""
    return Receipt(message.id)


def size(message: WireMessage) -> int:
    """Body and headers."""
    return len(message.body or b"") + sum(len(name) + len(value) for name, value in message.headers.items())


def by_key(message: WireMessage) -> str | None:
    """One lane for each key."""
    return message.key


class FakeSender:
    """Keeps every batch it was given; answers by script; holds batches while `gate` is closed.

    Attributes:
        batches: the bodies of each call, in order.
        stored: the bodies that were confirmed, in order: what a broker would have.
        calls: calls that are under way now, and the most there were at once in `most_calls`.
        clashes: lanes that were in two calls at once.
        callers: the task of each call, and `entered` is set by each: who waits for it leaves a caller alone.
    """

    def __init__(self, *, answer: Answer = confirm, **limits: Any) -> None:
        settings: dict[str, Any] = {"max_messages": 10, "max_bytes": 1 << 20, "in_flight": 4, "measure": size}
        self.limits = SendLimits(**settings | limits)
        self.answer = answer
        self.raises: list[BaseException | None] = []
        self.batches: list[list[WireMessage]] = []
        self.stored: list[WireMessage] = []
        self.deadlines: list[float] = []
        self.times: dict[str | None, int] = {}
        self.callers: list[asyncio.Task[Any] | None] = []
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.most_calls = 0
        self.clashes: list[object] = []
        self.closed = 0
        self._out: list[object] = []

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """See the class."""
        self.batches.append(list(messages))
        self.deadlines.append(deadline)
        self.callers.append(asyncio.current_task())
        self.entered.set()
        lanes = {lane for message in messages if (lane := self.limits.lane(message)) is not None}
        self.clashes += [lane for lane in lanes if lane in self._out]
        self._out += lanes
        self.calls += 1
        self.most_calls = max(self.most_calls, self.calls)
        try:
            await self.gate.wait()
            if self.raises and (error := self.raises.pop(0)) is not None:
                raise error
            return [self._answer(message) for message in messages]
        finally:
            self.calls -= 1
            for lane in lanes:
                self._out.remove(lane)

    async def aclose(self) -> None:
        """See the class."""
        self.closed += 1

    @property
    def sent(self) -> list[list[bytes | None]]:
        """The bodies of each batch."""
        return [[message.body for message in batch] for batch in self.batches]

    def _answer(self, message: WireMessage) -> Receipt | Error:
        time = self.times[message.id] = self.times.get(message.id, 0) + 1
        answer = self.answer(message, time)
        if isinstance(answer, Receipt):
            self.stored.append(message)
        return answer


async def nothing() -> None:
    """The client is open."""


def publisher(
    *senders: Sender | Exception,
    codec: Codec[Any] = BYTES,
    have: Capabilities | None = None,
    others: Mapping[str, Capabilities] | None = None,
    ensure_open: Callable[[], Awaitable[None]] = nothing,
    translate: Callable[[Exception], Error | None] = lambda _error: None,
) -> Publisher[Any]:
    """Return a publisher; each opening gets the next of `senders`, the last one for ever."""
    turns = list(senders)

    async def open_sender() -> Sender:
        turn = turns.pop(0) if len(turns) > 1 else turns[0]
        if isinstance(turn, Exception):
            raise turn
        return turn

    return Publisher(
        backend="fake",
        destination="orders",
        codec=codec,
        open_sender=open_sender,
        translate=translate,
        capabilities=lambda: have or Capabilities(headers="native", delay="native", ttl=True, priority=True),
        others=lambda: others or {},
        ensure_open=ensure_open,
    )


async def turns(number: int = 5) -> None:
    """Let everything that can run now run."""
    for _ in range(number):
        await asyncio.sleep(0)


class Clock:
    """Turns the time of the running event loop by hand."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = 1000.0
        loop.time = lambda: self.now  # type: ignore[method-assign]  # the test's time

    async def advance(self, seconds: float) -> None:
        """Let so much time pass; everything due then has run on return."""
        await turns()
        self.now += seconds
        await turns(10)
