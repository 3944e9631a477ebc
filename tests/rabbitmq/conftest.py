"""What the tests on a real RabbitMQ share: destinations of their own, and a channel of ours seen through the contract.

Law: one broker for all; nothing here is known to another test.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import unimsg
from unimsg.backends.rabbitmq import Options, build
from unimsg.message import Message, Receipt
from unimsg.options import parse
from unimsg.spi import Received, Topology

PATIENCE = 10.0
"""Seconds after which something has not happened."""


@pytest.fixture
def url(broker_url: Callable[..., str]) -> str:
    """The broker in plain text."""
    return broker_url("rabbitmq")


@pytest.fixture
def place(url: str) -> str:
    """Its host and port."""
    return url.rpartition("@")[2]


@pytest.fixture
def tls(broker_url: Callable[..., str]) -> str:
    """Host and port of its TLS listener."""
    return broker_url("rabbitmq", what="TLS")


@pytest.fixture
def certificates(broker_url: Callable[..., str]) -> Path:
    """The folder with the certificates of the test's own authority."""
    return Path(broker_url("rabbitmq", what="CERTIFICATES"))


def name() -> str:
    """Return a name that nobody else uses."""
    return f"t-{os.urandom(6).hex()}"


async def provided(url: str, **settings: str) -> str:
    """Make a destination with the group `g`."""
    destination = name()
    async with unimsg.connect(url) as client:
        await client.provision(Topology(destination=destination, groups=["g"], settings=settings))
    return destination


async def ignore(_: unimsg.Delivery[object]) -> None:
    """Handle nothing."""


class Listening:
    """A core that writes down what it is told."""

    def __init__(self) -> None:
        self.gone: list[Any] = []

    def assigned(self, assignments: Any, /) -> None: ...
    async def revoked(self, assignments: Any, deadline: float, /) -> None: ...
    def wake(self) -> None: ...

    def lost(self, assignments: Any, /) -> None:
        self.gone.extend(assignments)


class Bare:
    """A destination with the group `g`, through the contract: no core, so what is sent is what is seen."""

    def __init__(self, backend: Any, destination: str) -> None:
        self.backend = backend
        self.destination = destination
        self.events = Listening()
        self._open: list[Any] = []

    async def receiver(self, prefetch: int = 100) -> Any:
        """Open one more receiver."""
        receiver = await self.backend.open_receiver(self.destination, "g", "oldest", self.events, prefetch)
        self._open.append(receiver)
        return receiver

    async def send(self, *bodies: str, key: str | None = None, seconds: float = PATIENCE) -> Sequence[Any]:
        """Send one batch; returns what became of each."""
        sender = await self.backend.open_sender(self.destination)
        self._open.append(sender)
        batch = [Message[bytes | None](body=body.encode(), id=body, key=key) for body in bodies]
        results: Sequence[Any] = await sender.send_batch(batch, asyncio.get_running_loop().time() + seconds)
        return results

    async def fill(self, *bodies: str) -> None:
        """Send what must be confirmed."""
        assert [type(result) for result in await self.send(*bodies)] == [Receipt] * len(bodies)

    async def aclose(self) -> None:
        for one in self._open:
            await one.aclose()
        await self.backend.aclose()


@asynccontextmanager
async def bare(url: str, query: str = "", **settings: str) -> AsyncIterator[Bare]:
    """Give a new destination, seen through the contract."""
    destination = await provided(f"{url}{query}", **settings)
    backend = build(parse(f"{url}{query}", Options))
    await backend.open()
    seen = Bare(backend, destination)
    try:
        yield seen
    finally:
        await seen.aclose()


async def take(receiver: Any, count: int) -> list[Received]:
    """Receive so many."""
    got: list[Received] = []
    end = asyncio.get_running_loop().time() + PATIENCE
    while len(got) < count:
        assert asyncio.get_running_loop().time() < end, f"{len(got)} of {count} messages came"
        got += await receiver.receive_batch(count - len(got), 1.0)
    return got


async def rest(receiver: Any) -> list[str]:
    """Receive what there still is, and return the bodies."""
    got: list[str] = []
    while batch := await receiver.receive_batch(100, receiver.limits.idle):
        got += [(received.message.body or b"").decode() for received in batch]
    return got
