"""Sender: a batch of messages as one batch of records for one partition.

Law: one batch in flight for each partition, so the round trip is the linger; nothing is batched again below. aiokafka's
`send()` is not used: its own `create_batch` and `send_batch` take 0.4 of the CPU (`benchmarks/kafka.py`).

A batch that the broker refuses has spent a sequence number, and aiokafka has no way to take it back: every later batch
of that partition is refused as `OutOfOrderSequenceNumber` (aiokafka #1017). Then the sender is of no further use, which
`ConnectError` says (`trouble`): the core opens another, with a producer of its own, and sends the batch again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from unimsg.backends.kafka import trouble, wire
from unimsg.backends.kafka.capabilities import ROOM
from unimsg.backends.kafka.clients import Clients
from unimsg.backends.kafka.cluster import Topic
from unimsg.backends.kafka.connecting import Access
from unimsg.backends.kafka.options import Options
from unimsg.errors import ClosedError, ConnectError, Error
from unimsg.message import Position, Receipt, WireMessage
from unimsg.spi import SendLimits

MESSAGES = 10_000
"""Of one batch at most: what small messages need to fill it."""
CLOSING = 3.0
"""Seconds for what is in flight when a producer is closed."""


class KafkaSender:
    """The way into one topic: one producer id at the broker, one sequence of numbers for each partition."""

    def __init__(self, name: str, topic: Topic, access: Access, options: Options, clients: Clients) -> None:
        self._name = name
        self._topic = topic
        self._options = options
        self._clients = clients
        self._place = wire.placing(topic.partitions)
        self._names = [f"{name}-{partition}" for partition in range(topic.partitions)]
        self._busy: set[int] = set()
        self._turn = random.randrange(topic.partitions)  # noqa: S311 - else all that publish once choose the first
        self._limit = topic.limit - wire.BATCH_OVERHEAD
        self._producer = clients.own(_producer(access, options, topic.limit))
        self._partitions: Any = self._producer.client.cluster.partitions_for_topic
        self._closed = False
        self.limits = SendLimits(
            max_messages=MESSAGES,
            max_bytes=min(options.batch, self._limit),
            in_flight=topic.partitions,
            measure=wire.measure(topic.limit - ROOM, options.max_body, compacted=topic.compacted),
            lane=self._lane,
            batch_is_lane=True,
            linger=0.0,
        )

    def _lane(self, message: WireMessage) -> Hashable:
        return None if message.key is None else self._place(message.key)[0]

    async def open(self) -> None:
        """Connect and learn the topic: one attempt."""
        try:
            async with asyncio.timeout(self._options.request_timeout):
                await self._clients.start(self._producer)
                await self._producer.partitions_for(self._name)
        except BaseException:
            self._clients.drop(self._producer)
            raise

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Append all to one partition, or none; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=trouble.NAME, destination=self._name)
        if len(self._partitions(self._name) or ()) > self._topic.partitions:
            return [ConnectError("the topic has more partitions now", backend=trouble.NAME)] * len(messages)
        key = messages[0].key
        partition = self._next() if key is None else self._place(key)[0]
        self._busy.add(partition)
        try:
            return await self._append(partition, messages)
        finally:
            self._busy.discard(partition)

    def _next(self) -> int:
        """Return the partition for a batch without keys: the next in turn, one that is not in flight if there is."""
        count = self._topic.partitions
        for _ in range(count):
            self._turn = (self._turn + 1) % count
            if self._turn not in self._busy:
                break
        return self._turn

    async def _append(self, partition: int, messages: Sequence[WireMessage]) -> Sequence[Receipt | Error]:
        batch, place = self._producer.create_batch(), self._place
        append, encode, milliseconds = batch.append, wire.encode, wire.milliseconds
        for message in messages:
            key = message.key
            append(
                timestamp=milliseconds(message.timestamp),
                key=None if key is None else place(key)[1],
                value=message.body,
                headers=encode(message),
            )
        batch.close()
        size = batch.size()
        try:
            stored = await (await self._producer.send_batch(batch, self._name, partition=partition))
        except (KafkaError, OSError) as error:
            told = trouble.outcome(error, size=size, limit=self._limit, alone=len(messages) == 1)
            told.__cause__ = error
            return [told] * len(messages)
        name = self._names[partition]
        if (
            stored is None or stored.offset < 0
        ):  # acks=0, or a retry of what the broker has since forgotten the place of
            return [Receipt(message.id) for message in messages]
        first = stored.offset
        return [Receipt(message.id, Position(name, first + at)) for at, message in enumerate(messages)]

    async def aclose(self) -> None:
        """Close; what has not ended in a moment is given up, since aiokafka would wait for ever."""
        self._closed = True
        await self._clients.end(self._producer, CLOSING)


def _producer(access: Access, options: Options, limit: int) -> AIOKafkaProducer:
    """Return a producer, not started."""
    return AIOKafkaProducer(
        **access.settings,
        acks="all" if options.acks == "all" else int(options.acks),
        enable_idempotence=options.acks == "all",
        compression_type=None if options.compression == "none" else options.compression,
        max_batch_size=limit,
        linger_ms=0,
    )
