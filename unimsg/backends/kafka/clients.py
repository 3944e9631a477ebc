"""Clients: aiokafka's admin clients, producers and consumers, each from its making to its end.

Law: each is started and ended whole. Where aiokafka's own `start` or `stop` is cancelled in the middle, it forgets
connections and tasks (0.14: `AIOKafkaClient.bootstrap`, `GroupCoordinator.close`, `Sender.close`). So whoever waits may
be cancelled, and the work goes on here; what nobody has ended by then, `aclose` ends.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import RequestTimedOutError

log = logging.getLogger("unimsg.backends.kafka")

T = TypeVar("T")

CLOSING = 4.0
"""Seconds for an end in order: leaving the group, what is in flight."""
CUT = 1.0
"""Seconds for what is left when connections are cut: nobody waits for an answer any more."""
TASKS = (
    ("_coordinator", "_coordination_task"),
    ("_coordinator", "_heartbeat_task"),
    ("_coordinator", "_commit_refresh_task"),
    ("_fetcher", "_fetch_task"),
    ("_sender", "_sender_task"),
)
"""Where aiokafka keeps the tasks of a consumer or a producer; it has no other way to them."""


class Clients:
    """All clients of aiokafka of one backend."""

    def __init__(self) -> None:
        self._open: dict[Any, asyncio.Task[None] | None] = {}
        self._ending: dict[Any, asyncio.Task[None]] = {}

    def own(self, client: T) -> T:
        """Answer for the end of a client that was just made."""
        self._open[client] = None
        return client

    async def start(self, client: Any) -> None:  # noqa: ANN401 - aiokafka's
        """Connect: one attempt. After a failure or a cancellation the client is of no use: `drop` it."""
        self._open[client] = starting = asyncio.create_task(client.start(), name="unimsg.kafka.start")
        await asyncio.shield(starting)

    async def end(self, client: Any, patience: float = CLOSING) -> None:  # noqa: ANN401 - aiokafka's
        """Disconnect in order, or after so many seconds without it; a cancellation leaves that to `aclose`."""
        self.drop(client, patience)
        await asyncio.shield(self._ending[client])

    def drop(self, client: Any, patience: float = CLOSING) -> None:  # noqa: ANN401 - aiokafka's
        """Do as `end` does, and wait for nothing."""
        if client not in self._ending:
            starting = self._open.pop(client, None)
            ending = asyncio.create_task(_end(client, starting, patience), name="unimsg.kafka.end")
            self._ending[client] = ending
            ending.add_done_callback(lambda _: self._ending.pop(client))

    async def aclose(self) -> None:
        """End what is open, and return when all that had to be ended has; a cancellation gives up the rest."""
        for client in list(self._open):
            self.drop(client)
        try:
            while self._ending:
                await asyncio.wait(self._ending.values())
        finally:
            left = list(self._ending.values())
            for ending in left:
                ending.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _end(client: Any, starting: asyncio.Task[None] | None, patience: float) -> None:  # noqa: ANN401 - aiokafka's
    try:
        if starting is not None:
            await _within(starting, _inner(client)._request_timeout_ms / 1000)  # noqa: SLF001 - its own bound
        stopping = asyncio.create_task(client.stop() if hasattr(client, "stop") else client.close())
        try:
            await asyncio.wait((stopping,), timeout=patience)
            if not stopping.done():
                log.warning("%s did not end in time: its connections are cut", type(client).__name__)
                if isinstance(client, AIOKafkaProducer):
                    client._message_accumulator.fail_all(RequestTimedOutError())  # noqa: SLF001 - no public way to give up
                await _cut(client)
        finally:
            await _within(stopping, CUT)
    finally:
        left = _running(client)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CUT)
        await _cut(client)  # also what a start or a stop has left that failed in the middle


def _running(client: Any) -> list[asyncio.Task[Any]]:  # noqa: ANN401 - aiokafka's
    """Return the tasks that a client has left: a heartbeat would connect again, and keep its share from all others."""
    found = [getattr(getattr(client, part, None), name, None) for part, name in TASKS]
    found += getattr(getattr(client, "_fetcher", None), "_pending_tasks", ())
    return [task for task in found if task is not None and not task.done()]


async def _within(task: asyncio.Task[None], patience: float) -> None:
    """Wait for a task for so long, and cancel it then."""
    try:
        await asyncio.wait((task,), timeout=patience)
    finally:
        task.cancel()
        await asyncio.wait((task,), timeout=CUT)
        if task.done() and not task.cancelled():
            task.exception()  # looked at: whoever it concerns was told


async def _cut(client: Any) -> None:  # noqa: ANN401 - aiokafka's
    """Close the connections that there are: whoever still waits for an answer gets an error instead."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CUT):
            await _inner(client).close()


def _inner(client: Any) -> Any:  # noqa: ANN401 - aiokafka's
    """Return what holds the connections of a client."""
    return client.client if isinstance(client, AIOKafkaProducer) else client._client  # noqa: SLF001 - else not to be had
