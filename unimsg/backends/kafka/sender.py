"""Sender: a batch of messages as one batch of records for one partition.

Law: one batch in flight for each partition, so the round trip is the linger; nothing is batched again below. aiokafka's
`send()` is not used: its own `create_batch` and `send_batch` take 0.4 of the CPU (`benchmarks/kafka.py`).

A batch that the broker refuses has spent a sequence number, and aiokafka has no way to take it back: every later batch
of that partition would be refused (aiokafka #1017). So its producer is retired, and a new one takes the next batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, RequestTimedOutError

from unimsg.backends.kafka import trouble, wire
from unimsg.backends.kafka.capabilities import ROOM
from unimsg.backends.kafka.cluster import Topic
from unimsg.backends.kafka.connecting import Access
from unimsg.backends.kafka.options import Options
from unimsg.errors import ClosedError, ConnectError, Error
from unimsg.message import Position, Receipt, WireMessage
from unimsg.spi import SendLimits

log = logging.getLogger("unimsg.backends.kafka")

MESSAGES = 10_000
"""Of one batch at most: what small messages need to fill it."""
CLOSING = 3.0
"""Seconds for what is in flight when a producer is closed."""


class KafkaSender:
    """The way into one topic."""

    def __init__(self, name: str, topic: Topic, access: Access, options: Options) -> None:
        self._name = name
        self._topic = topic
        self._access = access
        self._options = options
        self._place = wire.placing(topic.partitions)
        self._names = [f"{name}-{partition}" for partition in range(topic.partitions)]
        self._busy: set[int] = set()
        self._turn = -1
        self._producer: _Producer | None = None
        self._starting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False
        self._limit = topic.limit - wire.BATCH_OVERHEAD
        self.limits = SendLimits(
            max_messages=MESSAGES,
            max_bytes=min(options.batch, self._limit),
            in_flight=topic.partitions,
            measure=wire.measure(topic.limit - ROOM, options.max_body),
            lane=self._lane,
            batch_is_lane=True,
            linger=0.0,
        )

    def _lane(self, message: WireMessage) -> Hashable:
        return None if message.key is None else self._place(message.key)[0]

    async def open(self) -> None:
        """Start the first producer: one attempt."""
        await self._current()

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Append all to one partition, or none; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=trouble.NAME, destination=self._name)
        try:
            producer = await self._current()
        except (KafkaError, OSError, TimeoutError) as error:
            told = trouble.translate(error) or ConnectError(str(error), backend=trouble.NAME)
            told.__cause__ = error
            return [told] * len(messages)
        if producer.partitions(self._name) > self._topic.partitions:
            return [ConnectError("the topic has more partitions now", backend=trouble.NAME)] * len(messages)
        key = messages[0].key
        partition = self._next() if key is None else self._place(key)[0]
        self._busy.add(partition)
        try:
            return await self._append(producer, partition, messages)
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

    async def _append(
        self, producer: _Producer, partition: int, messages: Sequence[WireMessage]
    ) -> Sequence[Receipt | Error]:
        batch, place = producer.batch(), self._place
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
            stored = await producer.send(batch, self._name, partition)
        except (KafkaError, OSError) as error:
            self._judge(producer, error)
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

    # ------------------------------------------------------------ producers

    async def _current(self) -> _Producer:
        if self._producer is None:
            async with self._starting:
                if self._producer is None:
                    producer = _Producer(self._access, self._options, self._limit)
                    async with asyncio.timeout(self._options.request_timeout):
                        await producer.start(self._name)
                    self._producer = producer
        return self._producer

    def _judge(self, producer: _Producer, error: Exception) -> None:
        """Retire a producer after an error that it does not survive."""
        if self._producer is not producer or getattr(error, "retriable", False):
            return
        log.warning("%r: a batch was refused (%r): its producer is replaced", self._name, error)
        self._producer = None
        task = asyncio.create_task(producer.retire(), name=f"unimsg.kafka.retire[{self._name}]")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def aclose(self) -> None:
        """Close all producers; what is in flight has a moment left, then its outcome is unknown."""
        if self._closed:
            return
        self._closed = True
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop(CLOSING)
        if self._retiring:
            await asyncio.wait(self._retiring)


class _Producer:
    """One producer of aiokafka: one producer id at the broker, one sequence of numbers for each partition."""

    def __init__(self, access: Access, options: Options, limit: int) -> None:
        self._native = AIOKafkaProducer(
            **access.settings,
            acks="all" if options.acks == "all" else int(options.acks),
            enable_idempotence=options.acks == "all",
            compression_type=None if options.compression == "none" else options.compression,
            max_batch_size=limit + wire.BATCH_OVERHEAD,
            linger_ms=0,
        )
        self.batch = self._native.create_batch
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._known: Any = self._native.client.cluster.partitions_for_topic

    async def start(self, topic: str) -> None:
        """Connect and learn the topic: one attempt."""
        try:
            await self._native.start()
            await self._native.partitions_for(topic)
        except BaseException:
            await self.stop(0.0)
            raise

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has by now."""
        return len(self._known(topic) or ())

    async def send(self, batch: Any, topic: str, partition: int) -> Any:  # noqa: ANN401 - aiokafka's
        """Send one batch; returns where it was stored, None with acks=0."""
        self._in_flight += 1
        self._quiet.clear()
        try:
            return await (await self._native.send_batch(batch, topic, partition=partition))
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    async def retire(self) -> None:
        """Close when what is in flight has ended; it takes nothing new."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._quiet.wait()
        await self.stop(0.0)

    async def stop(self, patience: float) -> None:
        """Close; what has not ended after so many seconds is given up, since aiokafka would wait for ever."""
        closing = asyncio.ensure_future(self._native.stop())
        await asyncio.wait((closing,), timeout=patience or 0.01)
        if not closing.done():
            self._native._message_accumulator.fail_all(RequestTimedOutError())  # noqa: SLF001 - no public way to give up
        await asyncio.wait((closing,), timeout=CLOSING)
        closing.cancel()
        with suppress(asyncio.CancelledError, KafkaError, OSError):
            await closing
