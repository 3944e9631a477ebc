"""pushlike: queues bound to an exchange that push to their consumer, as RabbitMQ does.

Law: what is delivered can be settled on the link that delivered it and nowhere else; a link that is lost gives all of
it back, in order, at the head; a queue has one active consumer; what finds no queue is unroutable; nothing is replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unimsg.capabilities import Capabilities
from unimsg.errors import CapabilityError, ClosedError, Error, UnroutableError
from unimsg.message import Receipt, WireMessage
from unimsg.spi import Drift, Events, SendLimits, Start, Topology
from unimsg.testing.shapes.common import Destinations, ShapeOptions, Shared, key_lane, measure
from unimsg.testing.shapes.push_queue import PushReceiver, Queue

SCHEMES = ("pushlike",)
FACTS: Mapping[str, Any] = {"service": "an exchange with queues in this process, for tests"}
NAME = "pushlike"
LIMIT = 1 << 20


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(ShapeOptions):
    """What a URL of this shape can say.

    Attributes:
        priority: higher priorities overtake, which costs the order.
    """

    scheme: str = NAME
    priority: bool = False


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on."""
    declared = Capabilities(
        ordering="key",
        groups=True,
        max_message_bytes=LIMIT,
        headers="native",
        ttl=True,
        dead_letter="emulated",
        attempts="broker",
    )
    if options.priority:
        return declared.lower("option priority=true", ordering="none").lower("", priority=True)
    return declared.lower("order: what waits in a lane goes back with its link", attempts="process")


class Exchange:
    """A destination: each group has a queue, each queue gets every message."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queues: dict[str, Queue] = {}

    def queue(self, group: str, *, priority: bool) -> Queue:
        """Return the queue of a group, made where there is none."""
        if group not in self.queues:
            self.queues[group] = Queue(f"{self.name}.{group}", priority=priority)
        return self.queues[group]


class PushBackend:
    """The exchanges of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self.broker = _brokers.get(options.name)
        self._closed = False

    async def open(self) -> None:
        """Nothing is to be connected."""

    async def open_sender(self, destination: str, /) -> PushSender:
        """Open the way into an exchange."""
        return PushSender(self._exchange(destination), self.options)

    async def open_receiver(
        self,
        destination: str,
        group: str | None,
        start: Start,  # noqa: ARG002 - a queue has no past
        events: Events,
        prefetch: int,
        /,
    ) -> PushReceiver:
        """Consume the queue of a group."""
        exchange = self._exchange(destination)
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=NAME,
                destination=destination,
            )
        queue = exchange.queue(group, priority=self.options.priority)
        return PushReceiver(queue, events, prefetch, self.options.wait)

    def _exchange(self, destination: str) -> Exchange:
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)
        return self.broker.find(destination, self.options, Exchange)

    async def probe(self) -> None:
        """It is there."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make exchanges and queues; a dead letter destination keeps what it gets in a queue of its own."""
        drifts: list[Drift] = []
        for name in filter(None, (topology.destination, topology.dead_letter)):
            drifts.append(Drift(what=f"destination {name}", state=_state(name in self.broker, mode)))
            if mode == "ensure":
                self.broker.make(name, Exchange)
        if topology.destination in self.broker:
            exchange = self.broker.make(topology.destination, Exchange)
            for group in topology.groups:
                drifts.append(Drift(what=f"group {group}", state=_state(group in exchange.queues, mode)))
                if mode == "ensure":
                    exchange.queue(group, priority=self.options.priority)
        return drifts

    def translate(self, error: Exception, /) -> Error | None:  # noqa: ARG002 - there is no foreign library
        """Nothing foreign is raised here."""
        return None

    async def aclose(self) -> None:
        """Let go of the exchanges."""
        self._closed = True


def _state(there: bool, mode: str) -> Any:  # noqa: FBT001 - a literal of `Drift`
    return "present" if there else "created" if mode == "ensure" else "missing"


class PushSender:
    """Publishes with confirms; each message is confirmed on its own."""

    def __init__(self, exchange: Exchange, options: Options) -> None:
        self._exchange = exchange
        self._closed = False
        self.limits = SendLimits(
            max_messages=200,
            max_bytes=1 << 24,
            in_flight=4,
            measure=measure(LIMIT, NAME),
            lane=(lambda _message: None) if options.priority else key_lane,
            atomic_lane=False,
        )

    async def send_batch(
        self,
        messages: Sequence[WireMessage],
        deadline: float,  # noqa: ARG002 - it is answered at once
        /,
    ) -> Sequence[Receipt | Error]:
        """Put each into every queue."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=NAME)
        await asyncio.sleep(0)
        return [self._publish(message) for message in messages]

    def _publish(self, message: WireMessage) -> Receipt | Error:
        queues = self._exchange.queues
        if not queues:
            return UnroutableError(
                f"{self._exchange.name!r} has no queue: provision a group",
                backend=NAME,
                destination=self._exchange.name,
            )
        for queue in queues.values():
            queue.put(message)
        return Receipt(id=message.id)

    async def aclose(self) -> None:
        """Nothing is on its way."""
        self._closed = True


_brokers: Shared[Destinations[Exchange]] = Shared(Destinations)


def build(options: Options) -> PushBackend:
    """Return the backend of these options, without any I/O."""
    return PushBackend(options)


def broker(name: str) -> Destinations[Exchange]:
    """Return the exchanges behind `pushlike://name`, for tests that look inside."""
    return _brokers.get(name)
