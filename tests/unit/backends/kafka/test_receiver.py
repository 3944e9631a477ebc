"""When a receiver of Kafka says that there is nothing more, shown on a consumer that is none."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from unimsg.backends.kafka import Options
from unimsg.backends.kafka.cluster import Topic
from unimsg.backends.kafka.receiver import KafkaReceiver
from unimsg.spi import Assignment

PART = TopicPartition("orders", 0)


class Consumer:
    """What is asked of aiokafka's."""

    def __init__(self, end: int | None, position: int | None) -> None:
        self._end = end
        self._position = position

    def last_stable_offset(self, _: Any) -> int | None:
        return self._end

    async def position(self, _: Any) -> int:
        if self._position is None:
            raise IllegalStateError("taken away, says the test")
        return self._position


class Member:
    """What is asked of a member."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.held = {PART: Assignment("orders-0", PART)}


@pytest.mark.parametrize(
    ("end", "position", "drained"),
    [
        pytest.param(None, 0, False, id="it has not said where it ends"),
        pytest.param(5, 2, False, id="it ends behind where the group began, and nothing was taken yet"),
        pytest.param(5, 5, True, id="all was taken"),
        pytest.param(5, 6, True, id="the marker of a transaction is behind all"),
        pytest.param(5, None, False, id="it was taken away meanwhile"),
    ],
)
async def test_a_partition_is_drained_where_the_position_is_the_end(
    end: int | None, position: int | None, drained: bool
) -> None:
    """An end that is known says nothing of what was taken: a group may begin before it."""
    member: Any = Member(Consumer(end, position))
    receiver = KafkaReceiver("orders", Topic(1, 1 << 20), member, Options())

    assert await receiver._is_drained() is drained
