"""fifolike: a queue with message groups, as SQS FIFO is.

Law: ten messages a call; a group with a message in flight gives nothing more; each receipt has a lease, and the latest
receipt only can settle; a poll that its caller gave up stays open at the service and leases what it catches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from unimsg.capabilities import Capabilities, Lease
from unimsg.errors import CapabilityError, ClosedError, Error
from unimsg.message import Receipt, WireMessage
from unimsg.options import Range, Seconds
from unimsg.spi import (
    Drift,
    Events,
    Received,
    ReceiveLimits,
    SendLimits,
    Settlement,
    Start,
    Topology,
)
from unimsg.testing.shapes.common import Destinations, ShapeOptions, Shared, key_lane, measure
from unimsg.testing.shapes.fifo_queue import LONGEST, Poll, Queue

SCHEMES = ("fifolike",)
FACTS: Mapping[str, Any] = {"service": "a FIFO queue in this process, for tests"}
NAME = "fifolike"
LIMIT = 1 << 20
BATCH = 10


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(ShapeOptions):
    """What a URL of this shape can say.

    Attributes:
        lease: how long a delivery belongs to its consumer.
        dedup: for how long an id is recognised.
    """

    scheme: str = NAME
    lease: Annotated[Seconds, Range(0.01, 43200)] = 30.0
    dedup: Seconds = 300.0


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on."""
    return Capabilities(
        ordering="key",
        dedup="window",
        dedup_window=options.dedup,
        max_message_bytes=LIMIT,
        headers="native",
        dead_letter="emulated",
        lease=Lease(options.lease, longest=LONGEST),
    )


class FifoBackend:
    """The queues of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self.broker = _brokers.get(options.name)
        self._closed = False

    async def open(self) -> None:
        """Nothing is to be connected."""

    async def open_sender(self, destination: str, /) -> FifoSender:
        """Open the way into a queue."""
        return FifoSender(self._queue(destination))

    async def open_receiver(
        self,
        destination: str,
        group: str | None,
        start: Start,  # noqa: ARG002 - a queue has no past
        events: Events,  # noqa: ARG002 - nothing is assigned
        prefetch: int,  # noqa: ARG002 - a queue gives what it is asked for
        /,
    ) -> FifoReceiver:
        """Open the way out of a queue, for its one group."""
        if group is not None:
            raise CapabilityError(
                "a queue has one group: leave group= out",
                missing=("groups",),
                backend=NAME,
                destination=destination,
            )
        return FifoReceiver(self._queue(destination), self.options)

    def _queue(self, destination: str) -> Queue:
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)
        return self.broker.find(destination, self.options, self._new)

    def _new(self, name: str) -> Queue:
        return Queue(name, dedup=self.options.dedup)

    async def probe(self) -> None:
        """It is there."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make queues."""
        drifts: list[Drift] = []
        for name in filter(None, (topology.destination, topology.dead_letter)):
            state: Any = "present" if name in self.broker else "created" if mode == "ensure" else "missing"
            if mode == "ensure":
                self.broker.make(name, self._new)
            drifts.append(Drift(what=f"destination {name}", state=state))
        return drifts

    def translate(self, error: Exception, /) -> Error | None:  # noqa: ARG002 - there is no foreign library
        """Nothing foreign is raised here."""
        return None

    async def aclose(self) -> None:
        """Let go of the queues."""
        self._closed = True


class FifoSender:
    """Sends ten messages a call, of each group one."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._closed = False
        self.limits = SendLimits(
            max_messages=BATCH,
            max_bytes=LIMIT,
            in_flight=8,
            measure=measure(LIMIT, NAME),
            lane=key_lane,
            atomic_lane=False,
        )

    async def send_batch(
        self,
        messages: Sequence[WireMessage],
        deadline: float,  # noqa: ARG002 - it is answered at once
        /,
    ) -> Sequence[Receipt | Error]:
        """Put each into the queue."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=NAME)
        await asyncio.sleep(0)
        return [self._queue.put(message) for message in messages]

    async def aclose(self) -> None:
        """Nothing is on its way."""
        self._closed = True


class FifoReceiver:
    """One consumer of a queue."""

    def __init__(self, queue: Queue, options: Options) -> None:
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._polls: set[Poll] = set()
        self._stopped = self._closed = False
        self._lease = options.lease
        self.limits = ReceiveLimits(
            max_messages=BATCH,
            wait=options.wait,
            in_flight=4,
            cancel_safe=False,
            settle_messages=BATCH,
            settle_in_flight=4,
            max_delay=LONGEST,
            lease_covers_lane=True,
        )

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """One long poll; cancelled, it stays open at the service until its time is over."""
        if self._closed:
            raise ClosedError("the receiver is closed", backend=NAME)
        if not max_messages or self._stopped:
            return []
        poll = self._queue.poll(min(max_messages, BATCH), wait, self._lease)
        self._polls.add(poll)
        try:
            return await asyncio.shield(poll.answer)
        finally:
            self._polls.discard(poll)

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Delete, or change the visibility."""
        await asyncio.sleep(0)
        return [self._queue.settle(settlement) for settlement in settlements]

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        """Change the visibility of what is out."""
        await asyncio.sleep(0)
        return [self._queue.extend(token, seconds) for token in tokens]

    async def stop_intake(self) -> None:
        """Poll no more; a poll that is still open ends at the service in its own time."""
        self._stopped = True

    async def aclose(self, *, abort: bool = False) -> None:  # noqa: ARG002 - the service knows no consumers
        """What is out comes again when its leases end."""
        self._closed = self._stopped = True


_brokers: Shared[Destinations[Queue]] = Shared(Destinations)


def build(options: Options) -> FifoBackend:
    """Return the backend of these options, without any I/O."""
    return FifoBackend(options)


def broker(name: str) -> Destinations[Queue]:
    """Return the queues behind `fifolike://name`, for tests that look inside."""
    return _brokers.get(name)
