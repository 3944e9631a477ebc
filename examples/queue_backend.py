"""A whole backend: queues in this process, `queue://`. Copy it, and replace the deque by a client library.

Law: what a `unimsg.spi.Plugin` has. One group, no order, no leases: what it does not declare is refused for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unimsg import Delivery
from unimsg.capabilities import Capabilities
from unimsg.errors import CapabilityError, ClosedError, Error, MessageTooLargeError, SettleError
from unimsg.message import Receipt, WireMessage
from unimsg.options import Options as BaseOptions
from unimsg.options import check_name
from unimsg.spi import Events, Received, ReceiveLimits, SendLimits, Settlement, Start

SCHEMES = ("queue",)
FACTS = {"service": "this process"}


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(BaseOptions):
    """What the URL can say: what every backend's can, and nothing more."""

    scheme: str = "queue"


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on; all that is not named here is refused."""
    return Capabilities(
        delivery="at_least_once", headers="native", dead_letter="emulated", max_message_bytes=options.max_body
    )


def build(options: Options) -> QueueBackend:
    """Return the backend, without I/O."""
    return QueueBackend(options)


@dataclass(eq=False)
class Entry:
    """A message and what happened to it."""

    message: WireMessage
    deliveries: int = 0
    attempts: int = 0
    first_failed: float | None = None


class Queue:
    """One destination."""

    def __init__(self) -> None:
        """Begin empty."""
        self.waiting: deque[Entry] = deque()
        self.arrived = asyncio.Event()

    def put(self, entry: Entry) -> None:
        """Make an entry visible, and wake whoever waits for one."""
        self.waiting.append(entry)
        self.arrived.set()

    def put_after(self, delay: float, entry: Entry) -> None:
        """Make it visible later; the event loop's clock, so that a test can turn it."""
        asyncio.get_running_loop().call_later(delay, self.put, entry)


QUEUES: dict[str, Queue] = {}
"""What a broker would keep, whoever is connected."""


class QueueBackend:
    """One connection to the queues of this process."""

    def __init__(self, options: Options) -> None:
        """Connect to nothing yet."""
        self.options = options
        self.capabilities = declare(options)
        self._closed = False

    async def open(self) -> None:
        """Connect here: one attempt, no retry."""

    def _queue(self, destination: str) -> Queue:
        if self._closed:
            raise ClosedError("the backend is closed", backend="queue")
        check_name("destination", destination, names=self.options.names, backend="queue")
        return QUEUES.setdefault(destination, Queue())

    async def open_sender(self, destination: str, /) -> QueueSender:
        """Return the way in; a service with an operator would raise NotFoundError here."""
        return QueueSender(self._queue(destination), self.options.max_body)

    async def open_receiver(
        self, destination: str, group: str | None, _start: Start, _events: Events, _prefetch: int, /
    ) -> QueueReceiver:
        """Return the way out."""
        if group is not None:
            raise CapabilityError(
                "a queue has one group: leave group= out", missing=("groups",), backend="queue"
            )
        return QueueReceiver(self._queue(destination))

    async def probe(self) -> None:
        """Ask the service whether it is there."""

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of the client library's; there is none."""
        return error if isinstance(error, Error) else None

    async def aclose(self) -> None:
        """Disconnect here."""
        self._closed = True


class QueueSender:
    """The way in. One result for each message, in order; raises only if the outcome of all is unknown."""

    def __init__(self, queue: Queue, limit: int) -> None:
        """Say what a call can take."""
        self._queue = queue

        def measure(message: WireMessage) -> int:
            size = len(message.body or b"")
            if size > limit:
                raise MessageTooLargeError(
                    f"{size} bytes, {limit} fit", size=size, limit=limit, backend="queue"
                )
            return size

        self.limits = SendLimits(max_messages=100, max_bytes=100 * limit, in_flight=1, measure=measure)

    async def send_batch(
        self, messages: Sequence[WireMessage], _deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Send once, never retry: the core does."""
        for message in messages:
            self._queue.put(Entry(message))
        return [Receipt(message.id) for message in messages]

    async def aclose(self) -> None:
        """Nothing is on its way."""


class QueueReceiver:
    """The way out. What is out with it goes back when it closes, so nothing is lost with it."""

    limits = ReceiveLimits(max_messages=100, retry="broker", defer="broker")

    def __init__(self, queue: Queue) -> None:
        """Begin with nothing in hand."""
        self._queue = queue
        self._out: dict[int, Entry] = {}
        self._last = 0
        self._stopped = False

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """Wait at most `wait` for the first; fewer or none is normal."""
        try:
            async with asyncio.timeout(wait):
                while not self._queue.waiting and not self._stopped:
                    self._queue.arrived.clear()
                    await self._queue.arrived.wait()
        except TimeoutError:
            return ()
        count = 0 if self._stopped else min(max_messages, len(self._queue.waiting))
        return [self._take(self._queue.waiting.popleft()) for _ in range(count)]

    def _take(self, entry: Entry) -> Received:
        self._last += 1
        self._out[self._last] = entry
        entry.deliveries += 1
        return Received(
            entry.message,
            self._last,
            deliveries=entry.deliveries,
            attempts=entry.attempts,
            first_failed=entry.first_failed,
            native=entry,
        )

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Settle each; what was executed is remembered for the next delivery."""
        return [self._settle(settlement) for settlement in settlements]

    def _settle(self, settlement: Settlement) -> Error | None:
        entry = self._out.pop(settlement.token, None)
        if entry is None:
            return SettleError("it is not out with this receiver", backend="queue")
        if settlement.verb != "ack":
            entry.attempts, entry.first_failed = settlement.executions, settlement.first_failed
            self._queue.put_after(settlement.delay, entry)
        return None

    async def stop_intake(self) -> None:
        """Nothing new after this; a waiting call ends."""
        self._stopped = True
        self._queue.arrived.set()

    async def aclose(self, *, abort: bool = False) -> None:  # noqa: ARG002 - there is no service to ask
        """Give back what is not settled."""
        await self.stop_intake()
        while self._out:
            self._queue.put(self._out.popitem()[1])


def native(delivery: Delivery[Any]) -> Entry:
    """Return what a delivery was made from: the one door to the native side."""
    entry: Entry = delivery._received.native  # noqa: SLF001 - the one door to it
    return entry
