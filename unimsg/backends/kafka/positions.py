"""Positions: where a group begins in each partition, and where it is moved to.

Law: asks the consumer, decides nothing that Kafka keeps: a partition whose position is committed goes on from there.

Where a group begins is committed as soon as it is known. Else a partition that had nothing to commit until the group
stopped would have no position, and a group that begins at the newest message would skip there what came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from unimsg.backends.kafka.trouble import NAME
from unimsg.errors import OptionError
from unimsg.message import Position
from unimsg.spi import Start


class Positions:
    """Positions of one group in one topic.

    Args:
        consumer: of aiokafka, started.
        topic: its name.
        known: how many partitions it had when the receiver was opened: in one that was added later all is new.
        start: where the group begins.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, known: int, start: Start) -> None:
        self._consumer = consumer
        self._topic = topic
        self._known = known
        self._start: Start = start
        self._newest: Mapping[Any, int] = {}

    async def open(self) -> None:
        """Note where the topic ends: `newest` counts from the opening, not from when this member has its share."""
        if self._start == "newest":
            parts = [TopicPartition(self._topic, number) for number in range(self._known)]
            self._newest = await self._consumer.end_offsets(parts)

    async def begin(self, parts: Iterable[Any]) -> None:
        """Put partitions that were just assigned, and that have no committed position, where the group starts."""
        consumer = self._consumer
        parts = list(parts)
        committed = await asyncio.gather(*map(consumer.committed, parts))
        fresh = [part for part, offset in zip(parts, committed, strict=True) if offset is None]
        old = [part for part in fresh if part.partition < self._known]
        at = dict.fromkeys(fresh, 0) | await self._find(self._start, old)
        if not at:
            return
        await consumer.commit(at)
        for part, offset in at.items():
            consumer.seek(part, offset)

    async def move(self, start: Start) -> None:
        """Commit other positions for all partitions; this member holds them all."""
        check(start, self._topic)
        parts = [TopicPartition(self._topic, number) for number in range(self._known)]
        if isinstance(start, Position):
            parts = [part for part in parts if part.partition == _partition(start, self._topic)]
        self._newest = {}
        await self._consumer.commit(await self._find(start, parts))

    async def _find(self, start: Start, parts: list[Any]) -> dict[Any, int]:
        """Return the offset of `start` in each partition."""
        consumer = self._consumer
        if not parts:
            return {}
        if start == "oldest":
            return dict(await consumer.beginning_offsets(parts))
        if start == "newest":
            if self._newest:
                return {part: self._newest[part] for part in parts}
            return dict(await consumer.end_offsets(parts))
        if isinstance(start, datetime):
            moment = int(start.timestamp() * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(parts, moment))
            ends = await consumer.end_offsets(parts)
            return {part: ends[part] if found[part] is None else found[part].offset for part in parts}
        oldest = await consumer.beginning_offsets(parts)
        named = _partition(start, self._topic)
        return {part: int(start.offset) if part.partition == named else oldest[part] for part in parts}


def check(start: Start, topic: str) -> None:
    """Refuse a position in another topic.

    Raises:
        OptionError: it is one.
    """
    if isinstance(start, Position) and (
        _partition(start, topic) is None or not isinstance(start.offset, int)
    ):
        raise OptionError(f"start={start} is no position in this topic", backend=NAME, destination=topic)


def _partition(position: Position, topic: str) -> int | None:
    name, _, number = position.partition.rpartition("-")
    return int(number) if name == topic and number.isdecimal() else None
