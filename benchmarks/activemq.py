"""A real ActiveMQ: ours beside stompman and stomp.py, 1 KB persistent, a receipt or an ack for each message.

Law: all in one run on one broker, 100 publishes in flight, 200 deliveries out. Each contender publishes to a topic of
its own and drains the queue of it afterwards. A peer that is not installed is left out. CPU is of the client process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import unimsg
from benchmarks.load import Load, Run, Tally, stalls
from benchmarks.table import Bar, Figure, Measured, Row, compare
from tools.brokers.activemq import Broker
from tools.brokers.services import HOME
from unimsg.spi import Topology

MESSAGES = 10_000
IN_FLIGHT, PREFETCH = 100, 200
BODY = bytes(1024)
LOAD = Load(MESSAGES, IN_FLIGHT, BODY)
LARGE, LARGE_ONES = 1_000_000, 50
PUBLISH, CONSUME = "ActiveMQ publish, 1 KB, 100 at once", "ActiveMQ drain, 1 KB, an ack for each"
STALL = "ActiveMQ, 1 MB bodies: longest turn of the loop"
OURS, MANY, STOMPMAN, STOMP_PY = "unimsg", "unimsg publish_many", "stompman", "stomp.py"

BARS = [
    Bar(CONSUME, STOMPMAN, 0.1),
    Bar(CONSUME, STOMP_PY, 0.3),
    Bar(STALL, "", 5.0, kind="above", contender="unimsg publish"),
    Bar(STALL, "", 5.0, kind="above", contender="unimsg consume"),
]


@contextmanager
def broker() -> Iterator[str]:
    """Give the URL of a broker of its own: that of the tests forgets what is idle."""
    with TemporaryDirectory() as folder:
        made = Broker(Path(folder) / "broker", HOME / "cache")
        made.start()
        try:
            yield made.url
        finally:
            made.stop()


async def _destination(url: str) -> str:
    name = f"bench-{os.urandom(4).hex()}"
    async with unimsg.connect(url) as client:
        await client.provision(Topology(destination=name, groups=["g"]))
    return name


def _topic(destination: str) -> str:
    return f"/topic/VirtualTopic.{destination}"


def _queue(destination: str) -> str:
    return f"/queue/Consumer.g.VirtualTopic.{destination}"


def _drain(url: str, destination: str) -> Run:
    return LOAD.drain(url, destination, iter(["g"]), prefetch=PREFETCH)


# ---------------------------------------------------------------- stompman


def _stompman(url: str) -> Any:
    import stompman  # noqa: PLC0415 - only `make bench` has it

    place = urlsplit(url)
    server = stompman.ConnectionParameters(
        host=place.hostname or "",
        port=place.port or 0,
        login=place.username or "",
        passcode=place.password or "",
    )
    return stompman.Client(servers=[server])


def stompman(url: str, destination: str) -> Run:
    """`send` with a receipt, awaited by each task."""

    async def run() -> None:
        async with _stompman(url) as client:
            told = {"persistent": "true"}
            await LOAD.at_once(
                lambda _: client.send(BODY, _topic(destination), headers=told, receipt_timeout=60)
            )

    return run


def stompman_in(url: str, destination: str) -> Run:
    """`subscribe`: it acks when the handler returns."""

    async def run() -> None:
        tally = Tally(MESSAGES)
        async with _stompman(url) as client:
            subscription = await client.subscribe(
                _queue(destination),
                tally.note,
                ack="client-individual",
                headers={"activemq.prefetchSize": str(PREFETCH)},
                on_suppressed_exception=lambda error, _frame: print(error),
            )
            await tally.full()
            await subscription.unsubscribe()

    return run


# ---------------------------------------------------------------- stomp.py


class Receipts:
    """A listener that knows which sends were answered and what came."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._waiting: dict[str, Event] = {}
        self.count = 0
        self.done = Event()

    def __getattr__(self, name: str) -> Any:
        """Everything else that a listener is told is of no interest."""
        if name.startswith("on_"):
            return lambda *_: None
        raise AttributeError(name)

    def on_receipt(self, frame: Any) -> None:
        if (answered := self._waiting.pop(frame.headers["receipt-id"], None)) is not None:
            answered.set()

    def on_message(self, frame: Any) -> None:
        self._connection.ack(frame.headers["ack"])
        self.count += 1
        if self.count == MESSAGES:
            self.done.set()

    def send(self, place: str, number: int) -> None:
        """Send, and wait for the receipt."""
        answered = self._waiting[str(number)] = Event()
        self._connection.send(place, BODY, headers={"persistent": "true", "receipt": str(number)})
        answered.wait()


@contextmanager
def _stomp_py(url: str) -> Iterator[tuple[Any, Receipts]]:
    import stomp  # noqa: PLC0415 - only `make bench` has it

    place = urlsplit(url)
    connection = stomp.Connection12([(place.hostname, place.port)], auto_decode=False)
    listener = Receipts(connection)
    connection.set_listener("", listener)
    connection.connect(place.username, place.password, wait=True)
    try:
        yield connection, listener
    finally:
        connection.disconnect()


def stomp_py(url: str, destination: str) -> Run:
    """`send` with a receipt, in as many threads: it knows no event loop."""

    def publish() -> None:
        with _stomp_py(url) as (_, receipts), ThreadPoolExecutor(IN_FLIGHT) as pool:
            for sent in [pool.submit(receipts.send, _topic(destination), n) for n in range(MESSAGES)]:
                sent.result()

    async def run() -> None:
        await asyncio.to_thread(publish)

    return run


def stomp_py_in(url: str, destination: str) -> Run:
    """A listener that acks, in its own thread."""

    def drain() -> None:
        with _stomp_py(url) as (connection, receipts):
            told = {"activemq.prefetchSize": str(PREFETCH)}
            connection.subscribe(_queue(destination), "0", ack="client-individual", headers=told)
            receipts.done.wait()

    async def run() -> None:
        await asyncio.to_thread(drain)

    return run


# ---------------------------------------------------------------- large bodies


async def _large(url: str) -> tuple[float, float]:
    return await stalls(url, await _destination(url), "g", size=LARGE, messages=LARGE_ONES)


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure both ways, and large bodies; what a round has published it drains before the next one."""
    pairs: dict[str, tuple[Callable[[str, str], Run], Callable[[str, str], Run]]] = {
        OURS: (LOAD.publish, _drain)
    }
    for module, name, publishing, consuming in (
        ("stompman", STOMPMAN, stompman, stompman_in),
        ("stomp", STOMP_PY, stomp_py, stomp_py_in),
    ):
        if importlib.util.find_spec(module):
            pairs[name] = publishing, consuming
    rows: dict[tuple[str, str], Row] = {}
    with broker() as url:
        for _ in range(rounds):
            places = {name: asyncio.run(_destination(url)) for name in pairs}
            many = asyncio.run(_destination(url))
            out = {name: (MESSAGES, make(url, places[name])) for name, (make, _) in pairs.items()}
            out[MANY] = MESSAGES, LOAD.publish_many(url, many)
            into = {name: (MESSAGES, make(url, places[name])) for name, (_, make) in pairs.items()}
            into["unimsg, again"] = MESSAGES, _drain(url, many)
            for row in (*compare(PUBLISH, out, 1), *compare(CONSUME, into, 1)):
                known = rows.setdefault((row.path, row.contender), row)
                if known is not row:
                    known.cpu += row.cpu
                    known.wall += row.wall
        figures = [Figure(STALL, f"unimsg {way}", "ms") for way in ("publish", "consume")]
        for _ in range(rounds):
            for figure, value in zip(figures, asyncio.run(_large(url)), strict=True):
                figure.values.append(value)
    return [*rows.values(), *figures], BARS
