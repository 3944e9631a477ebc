"""loglike: a log with partitions, as Kafka and Kinesis are.

Law: positions move by cumulative commits; a partition belongs to one member and is revoked or lost as a whole; a late
commit is fenced; nothing is retried, delayed or leased. A member that does not poll in time is put out.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from unimsg.capabilities import Capabilities
from unimsg.errors import CapabilityError, ClosedError, Error
from unimsg.message import Position, Receipt, WireMessage
from unimsg.options import Range, Seconds
from unimsg.spi import (
    Drift,
    Events,
    SendLimits,
    Start,
    Topology,
)
from unimsg.testing.shapes.common import Destinations, ShapeOptions, Shared, measure
from unimsg.testing.shapes.log_member import Group, LogReceiver, Topic

SCHEMES = ("loglike",)
FACTS: Mapping[str, Any] = {"service": "a log in this process, for tests"}
NAME = "loglike"
LIMIT = 1 << 20


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(ShapeOptions):
    """What a URL of this shape can say.

    Attributes:
        partitions: of each new destination.
        drain: how long a member may take to drain what is revoked.
        max_poll: a member that does not poll for so long is put out.
    """

    scheme: str = NAME
    partitions: Annotated[int, Range(1, 100)] = 4
    drain: Seconds = 5.0
    max_poll: Seconds = 10.0


def declare(_options: Options) -> Capabilities:
    """Return what a program can rely on."""
    return Capabilities(
        ordering="partition",
        groups=True,
        replay="time",
        max_message_bytes=LIMIT,
        headers="native",
        dead_letter="emulated",
    )


def partition_of(key: str, count: int) -> int:
    """Return the partition of a key."""
    return zlib.crc32(key.encode("utf-8", "surrogateescape")) % count


class LogBackend:
    """The broker of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self.broker = _brokers.get(options.name)
        self._closed = False

    async def open(self) -> None:
        """Nothing is to be connected."""

    async def open_sender(self, destination: str, /) -> LogSender:
        """Open the way into a destination."""
        return LogSender(self._topic(destination), self.options)

    async def open_receiver(
        self,
        destination: str,
        group: str | None,
        start: Start,
        events: Events,
        prefetch: int,  # noqa: ARG002 - a log gives what it is asked for
        /,
    ) -> LogReceiver:
        """Join a group."""
        topic = self._topic(destination)
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=NAME,
                destination=destination,
            )
        found = topic.groups.setdefault(group, Group(topic, self.options.drain))
        return LogReceiver(found, start, events, wait=self.options.wait, max_poll=self.options.max_poll)

    def _topic(self, destination: str) -> Topic:
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)
        return self.broker.find(destination, self.options, lambda name: Topic(name, self.options.partitions))

    async def probe(self) -> None:
        """It is there."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make destinations; groups need not be made."""
        drifts: list[Drift] = []
        for name in filter(None, (topology.destination, topology.dead_letter)):
            there = name in self.broker
            if not there and mode == "ensure":
                self.broker.make(name, lambda name: Topic(name, self.options.partitions))
            state: Any = "present" if there else "created" if mode == "ensure" else "missing"
            drifts.append(Drift(what=f"destination {name}", state=state))
        return drifts

    def translate(self, error: Exception, /) -> Error | None:  # noqa: ARG002 - there is no foreign library
        """Nothing foreign is raised here."""
        return None

    async def aclose(self) -> None:
        """Let go of the broker."""
        self._closed = True


class LogSender:
    """Appends batches, each to one partition."""

    def __init__(self, topic: Topic, options: Options) -> None:
        self._topic = topic
        self._closed = False
        self.limits = SendLimits(
            max_messages=500,
            max_bytes=LIMIT,
            in_flight=len(topic.records),
            measure=measure(LIMIT, options.scheme),
            lane=self._lane,
            batch_is_lane=True,
        )

    def _lane(self, message: WireMessage) -> Hashable:
        return None if message.key is None else partition_of(message.key, len(self._topic.records))

    async def send_batch(
        self,
        messages: Sequence[WireMessage],
        deadline: float,  # noqa: ARG002 - an append ends at once
        /,
    ) -> Sequence[Receipt | Error]:
        """Append all, or none."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=NAME)
        await asyncio.sleep(0)
        topic, lane = self._topic, self._lane(messages[0])
        if lane is None:
            topic.turn += 1
            lane = topic.turn % len(topic.records)
        assert isinstance(lane, int)
        records = topic.records[lane]
        receipts: list[Receipt | Error] = []
        for message in messages:
            receipts.append(
                Receipt(
                    id=message.id, position=Position(partition=f"{topic.name}-{lane}", offset=len(records))
                )
            )
            records.append((time.time(), message))
        topic.bell.ring()
        return receipts

    async def aclose(self) -> None:
        """Nothing is on its way."""
        self._closed = True


_brokers: Shared[Destinations[Topic]] = Shared(Destinations)


def build(options: Options) -> LogBackend:
    """Return the backend of these options, without any I/O."""
    return LogBackend(options)


def broker(name: str) -> Destinations[Topic]:
    """Return the broker behind `loglike://name`, for tests that look inside."""
    return _brokers.get(name)
