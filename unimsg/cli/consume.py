"""`unimsg consume` and `unimsg tail`: messages become lines.

Law: a message is acked after its line was written and not before; one that could not be written goes back. Nothing here
blocks the event loop, however slowly the lines are read: leases are kept meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from unimsg.client import Client, connect
from unimsg.codecs import BYTES
from unimsg.consuming.delivery import Delivery
from unimsg.consuming.settings import Given
from unimsg.errors import CapabilityError
from unimsg.message import WireMessage
from unimsg.spi import Forgets, Provisions, Topology

PIECE = 4096
"""Bytes that a pipe takes without blocking when it says that it is writable (POSIX: PIPE_BUF is 512 at least, 4096 on
Linux: https://man7.org/linux/man-pages/man7/pipe.7.html)."""

Form = Callable[[WireMessage], bytes]


def raw(message: WireMessage) -> bytes:
    """Return the body as a line."""
    return (message.body or b"") + b"\n"


class Output:
    """Stdout, written without blocking the loop."""

    def __init__(self) -> None:
        sys.stdout.flush()
        try:
            self._fd: int | None = sys.stdout.fileno()
        except (OSError, ValueError):
            self._fd = None  # captured by a test: memory never blocks

    async def write(self, data: bytes) -> None:
        """Return when all of it is written.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        fd = self._fd
        if fd is None:
            sys.stdout.write(data.decode("utf-8", "replace"))
            return
        view = memoryview(data)
        while view:
            if not select.select((), (fd,), (), 0)[1]:
                await _writable(fd)
            view = view[os.write(fd, view[:PIECE]) :]


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def consume(
    url: str, destination: str, *, group: str | None, form: Form, most: int | None, until_idle: bool
) -> None:
    """Write what a group has before it; each message is acked after its line was written."""
    output = Output()
    settings: Given = {"group": group, "prefetch": min(1000, most or 1000)}
    async with connect(url) as client:
        subscriber = client.subscriber(destination, codec=BYTES, **settings)
        deliveries: Any = subscriber.until_idle() if until_idle else aiter(subscriber)
        async with aclosing(deliveries):
            async for delivery in _at_most(deliveries, most):
                try:
                    await output.write(form(delivery.message))
                except BaseException:
                    subscriber.set_aside(delivery)
                    raise
                await delivery.ack()


async def tail(url: str, destination: str, *, form: Form, most: int | None) -> None:
    """Write what comes from now on, with a group of our own that is dropped afterwards; other groups miss nothing."""
    output = Output()
    async with connect(url) as client:
        if not client.capabilities.groups:
            raise CapabilityError(
                "tail needs groups: here each message goes to one consumer, and looking would take it away",
                missing=("groups",),
                backend=client.options.scheme,
                destination=destination,
            )
        group = f"tail-{uuid4().hex}"
        await _make(client, destination, group)
        subscriber = client.subscriber(destination, codec=BYTES, group=group, start="newest")
        try:
            async with aclosing(aiter(subscriber)) as deliveries:
                async for delivery in _at_most(deliveries, most):
                    await delivery.ack()
                    await output.write(form(delivery.message))
        finally:
            if isinstance(client.backend, Forgets):
                await client.backend.forget(destination, group)


async def _make(client: Client, destination: str, group: str) -> None:
    """Make a group of a destination that is there, where groups do not come into being by themselves."""
    backend = client.backend
    if client.capabilities.replay != "none":
        return
    if not (isinstance(backend, Provisions) and isinstance(backend, Forgets)):
        raise CapabilityError(
            "tail would leave a group behind that keeps every message: here it cannot be dropped; provision a group of "
            "your own and consume with it",
            missing=("groups",),
            backend=client.options.scheme,
            destination=destination,
        )
    topology = Topology(destination=destination, groups=[group])
    looked = await client.provision(topology, mode="existing")
    if not any(drift.what.startswith("destination") and drift.state == "missing" for drift in looked):
        await client.provision(topology)


async def _at_most(
    deliveries: AsyncIterator[Delivery[Any]], most: int | None
) -> AsyncIterator[Delivery[Any]]:
    """The next is not asked for before the one before is done with, nor when there are enough."""
    left = most
    while left is None or left > 0:
        try:
            delivery = await anext(deliveries)
        except StopAsyncIteration:
            return
        yield delivery
        left = None if left is None else left - 1
