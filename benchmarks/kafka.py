"""A real Kafka: ours beside raw aiokafka, FastStream, librdkafka and Kafka's own Java tools, 1 KB with a key.

Law: all in one run on one broker, each with the same messages, two headers and all acknowledgements; 1,000 in flight.
Without `UNIMSG_TEST_KAFKA_URL` a broker is started for the run. CPU is of the client process; a JVM's start is in its.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

import unimsg
from benchmarks.load import Load, Run, Tally
from benchmarks.table import Bar, Measured, Row, compare
from tools.brokers import maven
from tools.brokers.kafka import ARTEFACTS, Cluster
from tools.brokers.services import HOME, found
from unimsg.capabilities import Ordering
from unimsg.spi import Topology

MESSAGES = 100_000
FEW = 5_000
"""For contenders that take long."""
WINDOW = 1000
BODY = bytes(1024)
KEYS = [f"customer-{number:06}" for number in range(10_000)]
LOAD = Load(MESSAGES, WINDOW, BODY, key=lambda number: KEYS[number % len(KEYS)])
HEADERS: list[tuple[str, str | bytes | None]] = [
    ("unimsg-id", b"01a2138e-b29c-7745-bbd7-b2204b4ef07b"),
    ("content-type", b"application/octet-stream"),
]
PUBLISH, CONSUME = "Kafka publish, 1 KB keyed", "Kafka consume, 1 KB keyed"
RAW, RAW_IN = "aiokafka send", "aiokafka getmany"

BARS = [
    Bar(PUBLISH, RAW, 2.0, kind="faster"),
    Bar(PUBLISH, RAW, 0.45),
    Bar(PUBLISH, RAW, 2.5, kind="faster", contender="unimsg publish_many"),
    Bar(CONSUME, RAW_IN, 5.0, kind="above"),
]


@contextmanager
def broker() -> Iterator[str]:
    """Give the servers of a broker."""
    url = os.environ.get("UNIMSG_TEST_KAFKA_URL") or getattr(found("kafka"), "environment", {}).get(
        "UNIMSG_TEST_KAFKA_URL"
    )
    if url:
        yield url.removeprefix("kafka://")
        return
    with TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), HOME / "cache")
        cluster.start()
        try:
            yield cluster.bootstrap()
        finally:
            cluster.stop()


async def _topic(servers: str) -> str:
    name = f"bench-{os.urandom(4).hex()}"
    async with unimsg.connect(f"kafka://{servers}") as client:
        settings = {"partitions": "4", "replication": "1"}
        await client.provision(Topology(destination=name, settings=settings))
    return name


# ---------------------------------------------------------------- out


def raw_window(servers: str, topic: str, **settings: Any) -> Run:
    """`send`, and the futures of a window gathered: the fastest way that its documents show."""

    async def run() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=servers, enable_idempotence=True, **settings
        ) as producer:
            for start in range(0, MESSAGES, WINDOW):
                futures = [
                    await producer.send(topic, BODY, KEYS[n % len(KEYS)].encode(), headers=HEADERS)
                    for n in range(start, start + WINDOW)
                ]
                await asyncio.gather(*futures)

    return run


def raw_tasks(servers: str, topic: str) -> Run:
    """`send_and_wait`, awaited by each task: what ours is called like."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True) as producer:

            def send(number: int) -> Any:
                key = KEYS[number % len(KEYS)].encode()
                return producer.send_and_wait(topic, BODY, key, headers=HEADERS)

            await LOAD.at_once(send, FEW * 2)

    return run


def faststream(servers: str, topic: str) -> Run:
    """`broker.publish`, awaited by each task."""

    async def run() -> None:
        from faststream.kafka import KafkaBroker  # noqa: PLC0415 - only `make bench` has it

        async with KafkaBroker(servers, enable_idempotence=True, acks="all", logger=None) as client:
            headers = {name: str(value) for name, value in HEADERS}

            def send(number: int) -> Any:
                return client.publish(BODY, topic, key=KEYS[number % len(KEYS)].encode(), headers=headers)

            await LOAD.at_once(send, FEW * 2)

    return run


def librdkafka(servers: str, topic: str) -> Run:
    """`produce` with a callback each, in a thread, no event loop: what C can do from Python."""

    def produce() -> None:
        from confluent_kafka import Producer  # noqa: PLC0415 - only `make bench` has it

        confirmed: list[int] = []
        producer = Producer(
            {"bootstrap.servers": servers, "enable.idempotence": True, "partitioner": "murmur2_random"}
        )
        for number in range(MESSAGES):
            while True:
                try:
                    producer.produce(
                        topic,
                        BODY,
                        KEYS[number % len(KEYS)].encode(),
                        headers=HEADERS,
                        on_delivery=lambda _error, _message: confirmed.append(1),
                    )
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
        producer.flush()
        assert len(confirmed) == MESSAGES

    async def run() -> None:
        await asyncio.to_thread(produce)

    return run


# ---------------------------------------------------------------- in


def ours_in(servers: str, topic: str, order: Ordering) -> Run:
    """A handler, 64 workers."""
    return LOAD.drain(f"kafka://{servers}", topic, iter(_group, ""), order=order)


def raw_in(servers: str, topic: str) -> Run:
    """`getmany(500)` and a commit for each."""

    async def run() -> None:
        count = 0
        async with AIOKafkaConsumer(
            topic,
            bootstrap_servers=servers,
            group_id=_group(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        ) as consumer:
            while count < MESSAGES:
                for records in (await consumer.getmany(timeout_ms=500, max_records=500)).values():
                    for _ in records:
                        count += 1
                await consumer.commit()

    return run


def faststream_in(servers: str, topic: str) -> Run:
    """A handler, one at a time, positions committed by a timer: its default."""

    async def run() -> None:
        from faststream.kafka import KafkaBroker  # noqa: PLC0415 - only `make bench` has it

        client: Any = KafkaBroker(servers, logger=None)
        tally = Tally(FEW)

        @client.subscriber(topic, group_id=_group(), auto_offset_reset="earliest")  # type: ignore[untyped-decorator]  # theirs
        async def handle(_: bytes) -> None:
            await tally.note()

        async with client:
            await client.start()
            await tally.full()

    return run


def _group() -> str:
    return f"bench-{os.urandom(4).hex()}"


# ---------------------------------------------------------------- Java


def java(path: str, name: str, arguments: Sequence[str], rounds: int) -> Row:
    """One of Kafka's performance tools, as its own process."""
    row = Row(path, name, MESSAGES)
    classes = maven.class_path(ARTEFACTS, HOME / "cache")
    for _ in range(rounds):
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", classes, *arguments],
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row.wall.append(time.perf_counter() - wall)
        row.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return row


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure both ways."""
    with broker() as servers:
        topic, full = asyncio.run(_topic(servers)), asyncio.run(_topic(servers))
        asyncio.run(_fill(servers, full))
        out: dict[str, tuple[int, Run]] = {
            RAW: (MESSAGES, raw_window(servers, topic)),
            "aiokafka send, 64 KB": (MESSAGES, raw_window(servers, topic, max_batch_size=65536)),
            "aiokafka send, by tasks": (FEW * 2, raw_tasks(servers, topic)),
            "unimsg": (MESSAGES, LOAD.publish(f"kafka://{servers}", topic)),
            "unimsg publish_many": (MESSAGES, LOAD.publish_many(f"kafka://{servers}", topic)),
        }
        into: dict[str, tuple[int, Run]] = {
            RAW_IN: (MESSAGES, raw_in(servers, full)),
            "unimsg": (MESSAGES, ours_in(servers, full, "key")),
            "unimsg, by partition": (MESSAGES, ours_in(servers, full, "partition")),
        }
        if importlib.util.find_spec("faststream"):
            out["FastStream"] = (FEW * 2, faststream(servers, topic))
            into["FastStream"] = (FEW, faststream_in(servers, full))
        if importlib.util.find_spec("confluent_kafka"):
            out["librdkafka, no event loop"] = (MESSAGES, librdkafka(servers, topic))
        rows: list[Measured] = [*compare(PUBLISH, out, rounds), *compare(CONSUME, into, rounds)]
        tools = "org.apache.kafka.tools."
        producing = [f"{tools}ProducerPerformance", "--topic", topic, "--num-records", str(MESSAGES)]
        producing += ["--record-size", "1024", "--throughput", "-1"]
        producing += ["--producer-props", f"bootstrap.servers={servers}"]
        consuming = [f"{tools}ConsumerPerformance", "--topic", full, "--num-records", str(MESSAGES)]
        consuming += ["--bootstrap-server", servers]
        rows.append(java(PUBLISH, "Java perf tool, no key", producing, min(rounds, 2)))
        rows.append(java(CONSUME, "Java perf tool", consuming, min(rounds, 2)))
    return rows, BARS


async def _fill(servers: str, topic: str) -> None:
    await LOAD.publish_many(f"kafka://{servers}", topic)()
