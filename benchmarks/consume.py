"""Consuming without a network: the whole loop of ours, ordered by key, against the bare sketch and FastStream.

FastStream consumes from a made-up aiokafka consumer, in its own default settings, without order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.sketch import BODY, KEYS, Sketch
from benchmarks.table import Bar, Measured, compare
from unimsg.capabilities import Capabilities, Lease
from unimsg.consuming.services import Services
from unimsg.consuming.settings import Settings
from unimsg.consuming.subscriber import Subscriber
from unimsg.errors import Error
from unimsg.message import Message, Receipt, WireMessage
from unimsg.spi import Assignment, Events, Received, ReceiveLimits, Receiver, Settlement

OURS = 100_000
THEIRS = 10_000
WORKERS = (1, 10, 100)
LEASE = ReceiveLimits(max_messages=1000, wait=1.0)
LOG = ReceiveLimits(max_messages=1000, wait=1.0, ack="cumulative", retry="core", release="none")


class Tap:
    """A receiver that makes its messages up."""

    def __init__(self, limits: ReceiveLimits, messages: int) -> None:
        self.limits = limits
        self._left = messages
        self._part = Assignment("part") if limits.ack == "cumulative" else None

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        count = min(max_messages, self._left)
        first, self._left = self._left, self._left - count
        return [self._one(token) for token in range(first, first - count, -1)]

    def _one(self, token: int) -> Received:
        key = str(token % KEYS)
        message: WireMessage = Message(body=BODY, key=key, id=str(token))
        return Received(message=message, token=token, lane=key, assignment=self._part, attempts=0)

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        return [None] * len(settlements)

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        return [None] * len(tokens)

    async def stop_intake(self) -> None: ...

    async def aclose(self, *, abort: bool = False) -> None: ...


async def light(delivery: Any) -> None:
    """A handler that looks at its body."""
    delivery.body  # noqa: B018 - looking is all it does


async def waiting(delivery: Any) -> None:
    """A handler that waits once."""
    await asyncio.sleep(0)


def ours(
    limits: ReceiveLimits, workers: int, handler: Callable[[Any], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return a run of our loop."""

    async def run() -> None:
        async def open_receiver(events: Events) -> Receiver:
            return Tap(limits, OURS)

        async def nothing(*_: Any) -> Receipt:
            return Receipt(id=None)

        lease = Lease(30.0) if limits is LEASE else None
        services = Services(
            backend="tap",
            open_receiver=open_receiver,
            capabilities=lambda: Capabilities(ordering="key", lease=lease),
            others=dict,
            translate=lambda _: None,
            dead_letter=nothing,
            publish=nothing,
        )
        settings = Settings.build("orders", {"concurrency": workers, "order": "key"})
        subscriber: Subscriber[Any] = Subscriber(services, settings, ensure_open=nothing)  # type: ignore[arg-type]  # its answer is not looked at
        health = await subscriber.run_until_idle(handler)
        assert health.counters["acked"] == OURS

    return run


def sketch(workers: int, handler: Callable[[Any], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a run of the sketch."""
    return lambda: Sketch(OURS, workers).run(handler)


def faststream(workers: int) -> Callable[[], Awaitable[None]] | None:  # noqa: C901 - a stand-in has many small methods
    """Return a run of FastStream on a made-up consumer; None where it is not installed."""
    try:
        from aiokafka import ConsumerRecord  # noqa: PLC0415 - a peer, in the extra `bench`
        from faststream.kafka import KafkaBroker  # noqa: PLC0415 - as above
    except ImportError:
        return None

    class Consumer:
        seen = 0

        def subscribe(self, **_: Any) -> None: ...
        async def start(self) -> None: ...
        async def stop(self) -> None: ...
        async def commit(self) -> None: ...
        async def getone(self) -> Any:
            self.seen += 1
            if self.seen > THEIRS:
                await asyncio.Event().wait()
            return ConsumerRecord("t", 0, self.seen, 0, 0, b"1", BODY, 0, 1, len(BODY), ())

    async def run() -> None:
        broker = KafkaBroker("nowhere", logger=None, allow_auto_create_topics=False)
        finished, count = asyncio.Event(), 0

        @broker.subscriber("t", group_id="g", max_workers=workers)  # type: ignore[untyped-decorator]  # its types are not looked at
        async def handle(body: dict[str, Any]) -> None:
            nonlocal count
            count += 1
            if count == THEIRS:
                finished.set()

        config = broker.config.broker_config
        config.builder = lambda **_: Consumer()  # as much of one as it calls
        config.logger._setup(broker.context)  # noqa: SLF001 - what its own `connect` does
        subscriber = broker.subscribers[0]
        await subscriber.start()
        await finished.wait()
        await subscriber.stop()

    return run


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure all of it."""
    rows: list[Measured] = []
    bars: list[Bar] = []
    for workers in WORKERS:
        for shape, limits in (("lease", LEASE), ("log", LOG)):
            path = f"consume, {shape}, {workers} workers"
            contenders = {
                "sketch": (OURS, sketch(workers, light)),
                "unimsg": (OURS, ours(limits, workers, light)),
            }
            peer = faststream(workers)
            if peer is not None:
                contenders["FastStream"] = (THEIRS, peer)
            rows += compare(path, contenders, rounds)
            bars += [Bar(path, "sketch", 3.0), Bar(path, "FastStream", 0.2)]
        path = f"consume, handler waits once, {workers} workers"
        rows += compare(
            path,
            {"sketch": (OURS, sketch(workers, waiting)), "unimsg": (OURS, ours(LEASE, workers, waiting))},
            rounds,
        )
        bars.append(Bar(path, "sketch", 3.0))
    return rows, bars
