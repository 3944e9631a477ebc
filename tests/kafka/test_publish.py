"""Publishing to a real Kafka: limits, refused batches, partitions, acks.

Law: what the sender promises and the client library alone would not give.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import unimsg
from tests.kafka.conftest import MakeTopic
from unimsg import codecs
from unimsg.backends.kafka import wire
from unimsg.errors import MessageTooLargeError, PublishManyError, RejectedError
from unimsg.message import Message, Position


def servers(url: str) -> str:
    return url.removeprefix("kafka://")


async def records(url: str, topic: str, partitions: int = 4) -> list[Any]:
    """All records of a topic, by the plain client."""
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=servers(url), auto_offset_reset="earliest") as consumer:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: list[Any] = []
        while len(found) < sum(ends.values()):
            for some in (await consumer.getmany(timeout_ms=1000)).values():
                found += some
        return found


async def configure(url: str, topic: str, **settings: str) -> None:
    """Change a topic, as an operator would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers(url))
    await admin.start()
    try:
        (answer,) = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))]
        )
        assert [resource[0] for resource in answer.resources] == [0]
    finally:
        await admin.close()


async def test_the_topics_own_limit_is_checked_before_the_wire(url: str, topic: MakeTopic) -> None:
    """Promise 19: in less than five seconds; the producer is not spoilt, so what comes after goes through."""
    name = await topic(**{"max.message.bytes": "10000"})
    async with unimsg.connect(url) as client:
        publisher = client.publisher(name, codec=codecs.BYTES)
        await publisher.publish(b"x" * 8000)
        with pytest.raises(MessageTooLargeError) as refused:
            await publisher.publish(b"x" * 9000, timeout=5)
        assert refused.value.limit == 10000 - 1024
        await publisher.publish_many(Message(body=b"x" * 1000, key="k") for _ in range(40))

    assert len(await records(url, name)) == 41


async def test_a_refused_batch_spoils_nothing(url: str, topic: MakeTopic) -> None:
    """A limit that was lowered since: one is told in less than five seconds, several are cut anew; later ones pass."""
    name = await topic(partitions="1")
    async with unimsg.connect(url) as client:
        publisher = client.publisher(name, codec=codecs.BYTES)
        await publisher.publish(b"before", key="k")
        await configure(url, name, **{"max.message.bytes": "10000"})

        refused: Exception | None = None
        while refused is None:  # the broker hears of the change a moment later
            try:
                await publisher.publish(b"", key="k", headers={"x": "x" * 20_000}, timeout=5)
            except MessageTooLargeError as error:
                refused = error
        assert "the topic refused" in str(refused)
        await publisher.publish(b"after", key="k")
        await publisher.publish_many(Message(body=b"%d" % n + b"x" * 1000, key="k") for n in range(40))

    values = [record.value for record in await records(url, name, 1)]
    values = [value for value in values if value]
    assert values[:2] == [b"before", b"after"]
    assert [int(value.rstrip(b"x")) for value in values[2:]] == list(range(40))


async def test_a_producer_that_a_refused_batch_has_spoilt_is_replaced(url: str, topic: MakeTopic) -> None:
    """Its sequence number is spent, so the broker refuses what comes after it in this partition (aiokafka #1017)."""
    name = await topic(partitions="1", **{"message.timestamp.after.max.ms": "60000"})
    async with unimsg.connect(url) as client:
        publisher = client.publisher(name)
        await publisher.publish("before", key="k")
        tomorrow = time.time() + 86_400
        ends = [
            await asyncio.gather(publisher.publish_many([message]), return_exceptions=True)
            for message in (
                Message(body="of tomorrow", key="k", timestamp=tomorrow),
                Message(body="after", key="k"),
            )
        ]

        assert isinstance(ends[0][0], PublishManyError)
        assert isinstance(ends[0][0].results[0], RejectedError)
        assert not isinstance(ends[1][0], Exception)
        assert client.health().publishers[name].reopened == 1
    assert [record.value for record in await records(url, name, 1)] == [b'"before"', b'"after"']


async def test_a_compacted_topic_takes_no_message_without_a_key(url: str, topic: MakeTopic) -> None:
    """Promise 19: told before the wire, where it spoils nothing; the broker's own answer would not say why."""
    name = await topic(partitions="1", **{"cleanup.policy": "compact"})
    async with unimsg.connect(url) as client:
        publisher = client.publisher(name)
        with pytest.raises(RejectedError, match="give key="):
            await publisher.publish("nobody's")
        await publisher.publish("somebody's", key="k")

        assert client.health().publishers[name].reopened == 0
    assert len(await records(url, name, 1)) == 1


async def test_a_key_has_the_partition_that_java_gives_it(url: str, topic: MakeTopic) -> None:
    """Promise 4; kills the mutant of a partition for a key that is not Java's."""
    name, keys = await topic(partitions="4"), [f"customer-{n}" for n in range(50)]
    async with unimsg.connect(url) as client:
        receipts = await client.publisher(name).publish_many(
            Message(body=n, key=key) for n, key in enumerate(keys)
        )

    where = {record.key.decode(): record.partition for record in await records(url, name)}
    assert where == {key: (wire.murmur2(key.encode()) & 0x7FFFFFFF) % 4 for key in keys}
    assert [receipt.position for receipt in receipts if receipt.position is None] == []
    assert {r.position.partition for r in receipts if r.position} == {
        f"{name}-{n}" for n in set(where.values())
    }


async def test_without_a_key_every_partition_has_its_turn(url: str, topic: MakeTopic) -> None:
    """A batch goes to one partition whole, the next to another."""
    name = await topic(partitions="4")
    async with unimsg.connect(url) as client:
        for number in range(8):
            await client.publish(name, number)

    assert Counter(record.partition for record in await records(url, name)) == dict.fromkeys(range(4), 2)


async def test_partitions_that_are_added_are_found(url: str, topic: MakeTopic) -> None:
    """A sender that knows fewer is replaced; keys go where every other client puts them by then."""
    name = await topic(partitions="1")
    async with unimsg.connect(url) as client:
        publisher = client.publisher(name)
        await publisher.publish(0, key="a")
        admin = AIOKafkaAdminClient(bootstrap_servers=servers(url))
        await admin.start()
        await admin.create_partitions({name: NewPartitions(3)})
        await admin.close()
        link: Any = publisher._batcher.link  # type: ignore[union-attr]  # it has published
        async with asyncio.timeout(30):
            while publisher.stats.reopened == 0:
                await link.sender._producer.client.force_metadata_update()
                await publisher.publish(1, key="a")
        receipts = [await publisher.publish(n, key=f"k{n}") for n in range(12)]

    used = {receipt.position.partition for receipt in receipts if receipt.position}
    assert used == {f"{name}-{n}" for n in range(3)}


@pytest.mark.parametrize("acks", ["1", "0"])
async def test_weaker_acks_still_deliver(acks: str, url: str, topic: MakeTopic) -> None:
    """With 0 nobody says where it was stored."""
    name = await topic()
    async with unimsg.connect(f"{url}?acks={acks}") as client:
        receipt = await client.publish(name, "x", key="k")
        await client.publish(name, "y", key="k")

    assert (receipt.position is None) == (acks == "0")
    assert [record.value for record in await records(url, name)] == [b'"x"', b'"y"']


async def test_batches_can_be_compressed(url: str, topic: MakeTopic) -> None:
    """Gzip needs no package."""
    name = await topic(partitions="1")
    async with unimsg.connect(f"{url}?compression=gzip") as client:
        await client.publisher(name).publish_many(Message(body="x" * 1000) for _ in range(100))

    assert len(await records(url, name, 1)) == 100


async def test_a_plain_client_reads_what_is_published(url: str, topic: MakeTopic) -> None:
    """Promise 20: the body is the body, headers are headers, the timestamp is the record's."""
    name = await topic(partitions="1")
    async with unimsg.connect(url) as client:
        sent = Message(body={"a": 1}, key="kéy", headers={"trace": "é"}, id="id-1", timestamp=1234567.5)
        receipts = await client.publisher(name).publish_many([sent])

    (record,) = await records(url, name, 1)
    assert receipts[0].position == Position(f"{name}-0", 0)
    assert (record.value, record.key, record.timestamp) == (b'{"a":1}', "kéy".encode(), 1234567500)
    assert record.headers == (
        ("unimsg-id", b"id-1"),
        ("content-type", b"application/json"),
        ("trace", "é".encode()),
    )


async def test_a_name_that_is_no_topic_is_refused(url: str) -> None:
    """Before the wire; portable names only, unless any are welcome."""
    async with unimsg.connect(url) as client:
        with pytest.raises(unimsg.errors.OptionError, match="not portable"):
            await client.publish("a.b", "x")
    async with unimsg.connect(f"{url}?names=any") as client:
        with pytest.raises(unimsg.errors.OptionError, match="no name of a topic"):
            await client.publish("a b", "x")
        with pytest.raises(unimsg.errors.NotFoundError):
            await client.publish(f"a.{os.urandom(4).hex()}", "x")
