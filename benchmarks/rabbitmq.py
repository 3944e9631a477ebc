"""A real RabbitMQ: ours beside raw pika, aio-pika, FastStream and mq-bridge, 1 KB persistent, each message confirmed.

Law: all in one run on one broker, classic durable queues, 100 publishes in flight, 200 deliveries out. What is drained
is filled before, a queue for each contender and round. A peer that is not installed is left out. CPU is of the client.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

import unimsg
from benchmarks.load import Load, Run, Tally, stalls
from benchmarks.table import Bar, Figure, Measured, compare
from tools.brokers.rabbitmq import Broker
from tools.brokers.services import HOME, found
from unimsg.spi import Topology

URL = "UNIMSG_TEST_RABBITMQ_URL"
MESSAGES = 5_000
IN_FLIGHT, PREFETCH = 100, 200
BODY = bytes(1024)
LOAD = Load(MESSAGES, IN_FLIGHT, BODY)
LARGE, LARGE_ONES = 1 << 20, 50
PUBLISH, CONSUME = "RabbitMQ publish, 1 KB, 100 at once", "RabbitMQ drain, 1 KB, an ack for each"
STALL = "RabbitMQ, 1 MB bodies: longest turn of the loop"
PEER = "aio-pika"
OURS, MANY, RAW, FASTSTREAM, BRIDGE = "unimsg", "unimsg publish_many", "raw pika", "FastStream", "mq-bridge"

BARS = [
    Bar(PUBLISH, PEER, 0.35),
    Bar(CONSUME, PEER, 0.30),
    Bar(STALL, "", 5.0, kind="above", contender="unimsg publish"),
    Bar(STALL, "", 5.0, kind="above", contender="unimsg consume"),
]


@contextmanager
def broker() -> Iterator[str]:
    """Give the URL of a broker."""
    running = found("rabbitmq")
    url = os.environ.get(URL) or (running.environment[URL] if running is not None else None)
    if url:
        yield url
        return
    with TemporaryDirectory() as folder:
        made = Broker(Path(folder) / "broker", HOME / "cache")
        made.start()
        try:
            yield made.url
        finally:
            made.stop()


async def _destination(url: str, *groups: str, **settings: str) -> str:
    name = f"bench-{os.urandom(4).hex()}"
    async with unimsg.connect(f"{url}?queues=classic") as client:
        await client.provision(Topology(destination=name, groups=groups, settings=settings))
    return name


# ---------------------------------------------------------------- out


class Raw:
    """pika's `AsyncioConnection`, a future for each publish: the least that a program could do by itself."""

    def __init__(self, url: str) -> None:
        self.parameters = pika.URLParameters(f"{url}/%2F")
        self.connection: Any = None
        self.channel: Any = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._last = self._oldest = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()
        self.connection = AsyncioConnection(
            self.parameters, on_open_callback=lambda it: it.channel(on_open_callback=opened.set_result)
        )
        self.channel = await opened
        return self

    async def __aexit__(self, *_: object) -> None:
        closed = asyncio.get_running_loop().create_future()
        self.connection.add_on_close_callback(lambda *_: closed.set_result(None))
        self.connection.close()
        await closed

    async def confirm(self) -> None:
        """Ask for confirms."""
        ready = asyncio.get_running_loop().create_future()
        self.channel.confirm_delivery(self._confirmed, callback=ready.set_result)
        await ready

    def _confirmed(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        for each in range(self._oldest + 1, tag + 1) if frame.method.multiple else (tag,):
            if (future := self._waiting.pop(each, None)) is not None:
                future.set_result(None)
        if frame.method.multiple:
            self._oldest = tag

    async def publish(self, destination: str) -> None:
        """Publish, and wait for the confirm."""
        self._last += 1
        self._waiting[self._last] = future = asyncio.get_running_loop().create_future()
        self.channel.basic_publish(
            destination, "", BODY, pika.BasicProperties(delivery_mode=2), mandatory=True
        )
        await future


def raw(url: str, destination: str) -> Run:
    """Raw pika."""

    async def run() -> None:
        async with Raw(url) as client:
            await client.confirm()
            await LOAD.at_once(lambda _: client.publish(destination))

    return run


def aio_pika(url: str, destination: str) -> Run:
    """`exchange.publish`, awaited by each task, on a robust connection."""

    async def run() -> None:
        import aio_pika as peer  # noqa: PLC0415 - only `make bench` has it

        async with await peer.connect_robust(url) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange(destination)
            persistent = peer.DeliveryMode.PERSISTENT
            await LOAD.at_once(lambda _: exchange.publish(peer.Message(BODY, delivery_mode=persistent), ""))

    return run


def faststream(url: str, destination: str) -> Run:
    """`broker.publish`, awaited by each task."""

    async def run() -> None:
        from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange  # noqa: PLC0415 - as above

        exchange = RabbitExchange(destination, type=ExchangeType.FANOUT, declare=False)
        async with RabbitBroker(url, logger=None) as client:
            await LOAD.at_once(lambda _: client.publish(BODY, exchange=exchange, persist=True))

    return run


def bridge(url: str, destination: str) -> Run:
    """`send_batch` of 100, in a thread: it knows no event loop."""

    def send() -> None:
        import mq_bridge  # noqa: PLC0415 - as above

        place = {"amqp": {"url": url, "queue": f"{destination}.sink", "no_declare_queue": True}}
        publisher = mq_bridge.Publisher.from_config(place)
        for _ in range(MESSAGES // IN_FLIGHT):
            publisher.send_batch([mq_bridge.Message(BODY) for _ in range(IN_FLIGHT)])

    async def run() -> None:
        await asyncio.to_thread(send)

    return run


# ---------------------------------------------------------------- in: the next queue of a contender at each run


def raw_in(url: str, destination: str, groups: Iterator[str]) -> Run:
    """Raw pika, a queue between its callback and who acks."""

    async def run() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with Raw(url) as client:
            client.channel.basic_qos(prefetch_count=PREFETCH)
            client.channel.basic_consume(
                f"{destination}.{next(groups)}",
                lambda _channel, method, _properties, _body: queue.put_nowait(method.delivery_tag),
            )
            for _ in range(MESSAGES):
                client.channel.basic_ack(await queue.get())

    return run


def aio_pika_in(url: str, destination: str, groups: Iterator[str]) -> Run:
    """A callback that acks."""

    async def run() -> None:
        import aio_pika as peer  # noqa: PLC0415 - as above

        done, count = asyncio.Event(), 0

        async def handle(message: Any) -> None:
            nonlocal count
            await message.ack()
            count += 1
            if count == MESSAGES:
                done.set()

        async with await peer.connect_robust(url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            await (await channel.get_queue(f"{destination}.{next(groups)}")).consume(handle)
            await done.wait()

    return run


def faststream_in(url: str, destination: str, groups: Iterator[str]) -> Run:
    """A handler, acked when it returns."""

    async def run() -> None:
        from faststream.rabbit import Channel, RabbitBroker, RabbitQueue  # noqa: PLC0415 - as above

        client: Any = RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=PREFETCH))
        tally = Tally(MESSAGES)

        @client.subscriber(RabbitQueue(f"{destination}.{next(groups)}", declare=False))  # type: ignore[untyped-decorator]  # theirs
        async def handle(_: bytes) -> None:
            await tally.note()

        async with client:
            await client.start()
            await tally.full()

    return run


def bridge_in(url: str, destination: str, groups: Iterator[str]) -> Run:
    """`poll_batch` and an ack for each batch, in a thread."""

    def drain(queue: str) -> None:
        import mq_bridge  # noqa: PLC0415 - as above

        place = {"amqp": {"url": url, "queue": queue, "no_declare_queue": True, "prefetch_count": PREFETCH}}
        count = 0
        with mq_bridge.Consumer.from_config(place) as consumer:
            while count < MESSAGES:
                batch, token = consumer.poll_batch(PREFETCH, 1000)
                count += len(batch)
                if token is not None:
                    consumer.ack(token)

    async def run() -> None:
        await asyncio.to_thread(drain, f"{destination}.{next(groups)}")

    return run


async def _large(url: str) -> tuple[float, float]:
    return await stalls(url, await _destination(url, "g"), "g", size=LARGE, messages=LARGE_ONES)


async def _filled(url: str, destination: str) -> None:
    await LOAD.publish_many(url, destination)()


PEERS = (
    ("aio_pika", PEER, aio_pika, aio_pika_in),
    ("faststream", FASTSTREAM, faststream, faststream_in),
    ("mq_bridge", BRIDGE, bridge, bridge_in),
)


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure both ways, and large bodies."""
    out: dict[str, Any] = {OURS: LOAD.publish, MANY: LOAD.publish_many, RAW: raw}
    into: dict[str, Any] = {OURS: partial(LOAD.drain, prefetch=PREFETCH), RAW: raw_in}
    for module, name, publishing, consuming in PEERS:
        if importlib.util.find_spec(module):
            out[name], into[name] = publishing, consuming
    with broker() as url:
        sink = asyncio.run(_destination(url, "sink", **{"max-length": "1000"}))
        publishes = {name: (MESSAGES, make(url, sink)) for name, make in out.items()}
        rows: list[Measured] = [*compare(PUBLISH, publishes, rounds)]
        names = {name: [f"{place}-{number}" for number in range(rounds)] for place, name in enumerate(into)}
        full = asyncio.run(_destination(url, *(group for groups in names.values() for group in groups)))
        asyncio.run(_filled(url, full))
        drains = {name: (MESSAGES, make(url, full, iter(names[name]))) for name, make in into.items()}
        rows += compare(CONSUME, drains, rounds)
        figures = [Figure(STALL, f"unimsg {way}", "ms") for way in ("publish", "consume")]
        for _ in range(rounds):
            for figure, value in zip(figures, asyncio.run(_large(url)), strict=True):
                figure.values.append(value)
    return [*rows, *figures], BARS
