"""Publishing without a network: our pipeline against FastStream's, each on a stand-in for its client.

The stand-ins answer at once, or after one turn of the event loop, as anything with a socket does at least.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.table import Bar, Measured, compare
from unimsg.capabilities import Capabilities
from unimsg.codecs import JSON
from unimsg.errors import Error
from unimsg.message import Message, Receipt, WireMessage
from unimsg.publishing.publisher import Publisher
from unimsg.spi import Sender, SendLimits

MESSAGES = 20_000
BODY = {"id": 7, "name": "abc", "v": 1.5}
AT_ONCE = (1, 10, 100)


class Sink:
    """A sender that confirms everything."""

    def __init__(self, turns: int) -> None:
        self._turns = turns

    limits = SendLimits(
        max_messages=1000,
        max_bytes=1 << 20,
        in_flight=8,
        measure=lambda message: len(message.body or b""),
        lane=lambda message: message.key,
    )

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        if self._turns:
            await asyncio.sleep(0)
        return [Receipt(message.id) for message in messages]

    async def aclose(self) -> None: ...


def _publisher(turns: int) -> Publisher[Any]:
    async def open_sender() -> Sender:
        return Sink(turns)

    async def ensure_open() -> None: ...

    return Publisher(
        backend="sink",
        destination="orders",
        codec=JSON,
        open_sender=open_sender,
        translate=lambda _: None,
        capabilities=Capabilities,
        others=dict,
        ensure_open=ensure_open,
    )


def ours(at_once: int, turns: int) -> Callable[[], Awaitable[None]]:
    """Return a run of ours, so many publishes at once."""

    async def run() -> None:
        publisher = _publisher(turns)

        async def client(count: int) -> None:
            for number in range(count):
                await publisher.publish(BODY, key=str(number % 97))

        await asyncio.gather(*(client(MESSAGES // at_once) for _ in range(at_once)))
        await publisher.aclose()

    return run


async def many() -> None:
    """Publish a thousand at a time."""
    publisher = _publisher(1)
    for _ in range(MESSAGES // 1000):
        await publisher.publish_many([Message(body=BODY, key=str(number % 97)) for number in range(1000)])
    await publisher.aclose()


def faststream(at_once: int, turns: int) -> Callable[[], Awaitable[None]] | None:
    """Return a run of FastStream on a made-up producer; None where it is not installed."""
    try:
        from faststream.kafka import KafkaBroker  # noqa: PLC0415 - a peer, in the extra `bench`
    except ImportError:
        return None

    class Producer:
        _closed = False

        async def start(self) -> None: ...
        async def stop(self) -> None: ...
        async def send(self, **_: Any) -> Any:
            future = asyncio.get_running_loop().create_future()
            if turns:
                asyncio.get_running_loop().call_soon(future.set_result, None)
            else:
                future.set_result(None)
            return future

    async def run() -> None:
        broker = KafkaBroker("nowhere", logger=None, allow_auto_create_topics=False)
        await broker.config.broker_config.producer.connect(Producer(), serializer=None)
        publisher = broker.publisher("orders")

        async def client(count: int) -> None:
            for number in range(count):
                await publisher.publish(BODY, key=str(number % 97).encode())

        await asyncio.gather(*(client(MESSAGES // at_once) for _ in range(at_once)))

    return run


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure all of it."""
    rows: list[Measured] = []
    bars: list[Bar] = []
    for turns in (0, 1):
        for at_once in AT_ONCE:
            path = f"publish, {at_once} at once, {turns} turns"
            contenders = {"unimsg": (MESSAGES, ours(at_once, turns))}
            peer = faststream(at_once, turns)
            if peer is not None:
                contenders["FastStream"] = (MESSAGES, peer)
            rows += compare(path, contenders, rounds)
            bars.append(Bar(path, "FastStream", 0.6))
    rows += compare("publish_many, 1000 at a time", {"unimsg": (MESSAGES, many)}, rounds)
    return rows, bars
