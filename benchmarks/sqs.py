"""SQS on MiniStack: ours beside aiobotocore by hand, boto3, Kombu and fanferro, 1 KB; CPU of the client, calls counted.

Law: all in one run on one emulator, which counts the calls that it gets; each contender has queues of its own. A peer
that is not installed is left out. The emulator is the slower half: CPU of this process is what compares.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
from aiobotocore.session import get_session

import unimsg
from benchmarks.load import Load, Run, Tally
from benchmarks.table import Bar, Figure, Measured, compare
from tools.brokers import ministack
from tools.brokers.services import HOME
from unimsg import codecs

MESSAGES = 2_000
SENDERS = 50
BODY = "x" * 1024
LOAD = Load(MESSAGES, SENDERS, BODY, codecs.TEXT, lambda number: f"customer-{number % SENDERS}")
REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
IDLE = 60.0
"""Seconds for which an idle consumer is watched."""
PUBLISH, FIFO, DRAIN = "SQS publish, 50 at once", "SQS FIFO publish, 50 keys at once", "SQS drain"
QUIET = "SQS, an idle queue"
ONE, HAND = "aiobotocore, one by one", "aiobotocore, ten by ten"
COUNTER = Path(__file__).with_name("counting_ministack.py")

BARS = [
    Bar(PUBLISH, ONE, 0.2),
    Bar(FIFO, ONE, 0.2),
    Bar(DRAIN, HAND, 0.6),
    Bar(f"{PUBLISH}: calls", "", 1 / 9, kind="above"),
    Bar(f"{FIFO}: calls", "", 1 / 9, kind="above"),
    Bar(f"{DRAIN}: calls", "", 0.21, kind="above"),
    Bar(QUIET, "", 4.0, kind="above"),
]


class Stage:
    """The emulator, and queues of it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._plain = boto3.client("sqs", endpoint_url=endpoint, **KEYS)

    def url(self, scheme: str = "sqs") -> str:
        """Return how ours is told of it."""
        return f"{scheme}://{REGION}?endpoint_url={self.endpoint}&access_key=test&secret_key=test"

    def calls(self) -> int:
        """Return how many there were that move messages."""
        asked = urllib.request.Request(  # noqa: S310 - the URL is our own
            self.endpoint,
            b"{}",
            {
                "X-Amz-Target": "AmazonSQS.CountCalls",
                "Content-Type": "application/x-amz-json-1.0",
                "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/sqs/aws4_request",
            },
        )
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - as above
            told: Mapping[str, int] = json.load(answer)
        return sum(count for name, count in told.items() if "Message" in name)

    def queue(self, *, fifo: bool = False, filled: int = 0) -> str:
        """Return the name of a new queue."""
        name = f"bench-{os.urandom(5).hex()}"
        settings = {"FifoQueue": "true"} if fifo else {}
        queue = self._plain.create_queue(
            QueueName=name + (".fifo" if fifo else ""), Attributes={"VisibilityTimeout": "120", **settings}
        )["QueueUrl"]
        for start in range(0, filled, 10):
            entries = [{"Id": str(n), "MessageBody": BODY} for n in range(start, start + 10)]
            self._plain.send_message_batch(QueueUrl=queue, Entries=entries)
        return name

    def client(self) -> Any:
        """Return aiobotocore's, to be entered."""
        return get_session().create_client("sqs", endpoint_url=self.endpoint, **KEYS)


@contextmanager
def emulator() -> Iterator[Stage]:
    """Start one that counts, and polls for as long as it is asked to."""
    with TemporaryDirectory() as folder:
        running = ministack.start(Path(folder), HOME / "cache", COUNTER)
        try:
            yield Stage(running.environment["UNIMSG_TEST_MINISTACK_URL"])
        finally:
            running.stop()


# ---------------------------------------------------------------- out


def ours(stage: Stage, scheme: str) -> Run:
    """`publish`, awaited by each task; on FIFO so many keys."""
    return LOAD.publish(stage.url(scheme), stage.queue(fifo=scheme == "sqs+fifo"))


def one_by_one(stage: Stage, *, fifo: bool) -> Run:
    """`send_message`, awaited by each task."""
    name = stage.queue(fifo=fifo)

    async def run() -> None:
        async with stage.client() as client:
            queue = (await client.get_queue_url(QueueName=name + (".fifo" if fifo else "")))["QueueUrl"]

            async def send(number: int) -> None:
                more = {"MessageGroupId": LOAD.key(number), "MessageDeduplicationId": os.urandom(8).hex()}
                await client.send_message(QueueUrl=queue, MessageBody=BODY, **(more if fifo else {}))

            await LOAD.at_once(send)

    return run


def with_boto3(stage: Stage) -> Run:
    """`send_message` in one thread, one after the other: what most programs do."""
    name = stage.queue()

    async def run() -> None:
        client = boto3.client("sqs", endpoint_url=stage.endpoint, **KEYS)
        queue = client.get_queue_url(QueueName=name)["QueueUrl"]
        for _ in range(MESSAGES):
            client.send_message(QueueUrl=queue, MessageBody=BODY)

    return run


def with_kombu(stage: Stage, name: str = "") -> Run:
    """`Producer.publish`, one after the other."""
    name = name or stage.queue()

    async def run() -> None:
        with _kombu(stage) as connection:
            producer = connection.Producer()
            for _ in range(MESSAGES):
                producer.publish(BODY, routing_key=name, serializer="raw", content_type="text/plain")

    return run


def with_fanferro(stage: Stage) -> Run:
    """`send`, awaited by each task."""
    name = stage.queue()

    async def run() -> None:
        client = _fanferro(stage)
        queue = client.queue(name)
        async with client:
            await LOAD.at_once(lambda _: queue.send(BODY))

    return run


# ---------------------------------------------------------------- in


def ours_in(queues: Iterator[str], stage: Stage, transport: str) -> Run:
    """A handler, twenty at once."""

    async def run() -> None:
        url = f"{stage.url()}&wait=1s&transport={transport}"
        await LOAD.drain(url, next(queues), iter([None]), concurrency=20)()

    return run


def by_hand_in(queues: Iterator[str], stage: Stage) -> Run:
    """A loop of receive and delete, ten a call, two at once: the fastest that its documents show."""

    async def run() -> None:
        name, count = next(queues), 0
        async with stage.client() as client:
            queue = (await client.get_queue_url(QueueName=name))["QueueUrl"]

            async def work() -> None:
                nonlocal count
                while count < MESSAGES:
                    answer = await client.receive_message(
                        QueueUrl=queue,
                        MaxNumberOfMessages=10,
                        WaitTimeSeconds=1,
                        MessageAttributeNames=["All"],
                    )
                    batch = answer.get("Messages", ())
                    if batch:
                        entries = [
                            {"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]}
                            for at, one in enumerate(batch)
                        ]
                        await client.delete_message_batch(QueueUrl=queue, Entries=entries)
                        count += len(batch)

            await asyncio.gather(work(), work())

    return run


def boto3_in(queues: Iterator[str], stage: Stage) -> Run:
    """The same loop in one thread."""

    async def run() -> None:
        name, count = next(queues), 0
        client = boto3.client("sqs", endpoint_url=stage.endpoint, **KEYS)
        queue = client.get_queue_url(QueueName=name)["QueueUrl"]
        while count < MESSAGES:
            batch = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ())
            if batch:
                entries = [
                    {"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(batch)
                ]
                client.delete_message_batch(QueueUrl=queue, Entries=entries)
                count += len(batch)

    return run


def kombu_in(queues: Iterator[str], stage: Stage) -> Run:
    """A consumer that acks; Kombu reads only what Kombu wrote."""

    async def run() -> None:
        from kombu import Queue  # noqa: PLC0415 - only `make bench` has it

        name, count = next(queues), 0

        def handle(_body: Any, message: Any) -> None:
            nonlocal count
            message.ack()
            count += 1

        with (
            _kombu(stage) as connection,
            connection.Consumer(Queue(name), callbacks=[handle], prefetch_count=10),
        ):
            while count < MESSAGES:
                connection.drain_events(timeout=30)

    return run


def fanferro_in(queues: Iterator[str], stage: Stage) -> Run:
    """A handler, twenty at once."""

    async def run() -> None:
        tally, client = Tally(MESSAGES), _fanferro(stage)

        async def handle(_: bytes) -> None:  # it looks at the signature
            await tally.note()

        consumer = client.consumer(client.queue(next(queues)), handle, concurrency=20, wait_time=1)
        async with client:
            await consumer.start()
            await tally.full()
            await consumer.stop()

    return run


def kombu_filled(stage: Stage, rounds: int) -> Iterator[str]:
    """Return queues that Kombu has filled."""
    names = [stage.queue() for _ in range(rounds)]
    for name in names:
        asyncio.run(_awaited(with_kombu(stage, name)))
    return iter(names)


async def _awaited(run: Run) -> None:
    await run()


def _kombu(stage: Stage) -> Any:
    from kombu import Connection  # noqa: PLC0415 - only `make bench` has it

    address = stage.endpoint.removeprefix("http://")
    return Connection(
        f"sqs://test:test@{address}",
        transport_options={"is_secure": False, "region": REGION, "wait_time_seconds": 1},
    )


def _fanferro(stage: Stage) -> Any:
    from fanferro import Client, Credentials  # noqa: PLC0415 - only where it can be installed

    keys = Credentials(KEYS["aws_access_key_id"], KEYS["aws_secret_access_key"])
    return Client(region=REGION, endpoint_url=stage.endpoint, credentials=keys)


async def _idle(stage: Stage) -> float:
    """Return the requests a minute of a consumer to whom nothing comes; polls last as long as in production."""
    queue = stage.queue()

    async def handle(_: unimsg.Delivery[str]) -> None: ...

    async with unimsg.connect(stage.url()) as client:
        running = asyncio.create_task(client.subscriber(queue, drain=30).run(handle))
        begin, before = time.monotonic(), stage.calls()
        await asyncio.sleep(IDLE)
        requests = (stage.calls() - before) / (time.monotonic() - begin) * 60
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return requests


# ---------------------------------------------------------------- all


def measured(stage: Stage, path: str, contenders: Mapping[str, Run], rounds: int) -> Iterator[Measured]:
    """Measure CPU and calls of each."""
    calls = {name: Figure(f"{path}: calls", name, "calls/msg") for name in contenders}

    def counting(name: str, run: Run) -> Run:
        async def counted() -> None:
            before = stage.calls()
            await run()
            calls[name].values.append((stage.calls() - before) / MESSAGES)

        return counted

    yield from compare(path, {n: (MESSAGES, counting(n, run)) for n, run in contenders.items()}, rounds)
    yield from calls.values()


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure both ways, and an idle queue."""
    rows: list[Measured] = []
    with emulator() as stage:
        out = {ONE: one_by_one(stage, fifo=False), "unimsg": ours(stage, "sqs"), "boto3": with_boto3(stage)}
        ordered = {ONE: one_by_one(stage, fifo=True), "unimsg": ours(stage, "sqs+fifo")}

        def filled() -> Iterator[str]:
            return iter([stage.queue(filled=MESSAGES) for _ in range(rounds)])

        into = {
            HAND: by_hand_in(filled(), stage),
            "unimsg": ours_in(filled(), stage, "lean"),
            "unimsg, transport=botocore": ours_in(filled(), stage, "botocore"),
            "boto3": boto3_in(filled(), stage),
        }
        if importlib.util.find_spec("kombu"):
            out["Kombu"] = with_kombu(stage)
            into["Kombu"] = kombu_in(kombu_filled(stage, rounds), stage)
        if importlib.util.find_spec("fanferro"):
            out["fanferro"] = with_fanferro(stage)
            into["fanferro"] = fanferro_in(filled(), stage)
        rows += measured(stage, PUBLISH, out, rounds)
        rows += measured(stage, FIFO, ordered, rounds)
        rows += measured(stage, DRAIN, into, rounds)
        rows.append(Figure(QUIET, "unimsg", "calls/min", [asyncio.run(_idle(stage))]))
    return rows, BARS
