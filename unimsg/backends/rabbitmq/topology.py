"""Topology: exchanges, queues, bindings and the retry ladder, as an operator wants them.

Law: asks and declares, never deletes. What exists is looked at first, passively, so that nothing is made unasked; then
it is declared as it is wanted, and where the server says that it is another (406) both sides are told. Each such answer
closes the channel, so each question has one of its own.

A destination is a fanout exchange; a group is the queue `destination.group`, bound to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pika.exceptions import ChannelClosedByBroker

from unimsg.backends.rabbitmq import ladder
from unimsg.backends.rabbitmq.capabilities import UNLIMITED
from unimsg.backends.rabbitmq.connection import Connection
from unimsg.backends.rabbitmq.options import Options
from unimsg.backends.rabbitmq.trouble import NAME, NOT_FOUND, REFUSED, Conflict, conflict
from unimsg.errors import OptionError
from unimsg.spi import Drift, Topology

PRIORITIES = 9
EXCHANGES = ("fanout", "direct", "topic", "headers", "x-consistent-hash")


def queue_of(destination: str, group: str) -> str:
    """Return the name of a group's queue."""
    return f"{destination}.{group}"


def arguments(
    options: Options, version: tuple[int, ...], settings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return how a group's queue is made.

    A quorum queue drops what was delivered too often, where nothing else is said: that is the core's to decide, so
    the limit is taken away.
    """
    wanted: dict[str, Any] = {"x-queue-type": options.kind}
    if options.kind == "quorum" and version >= UNLIMITED:
        wanted["x-delivery-limit"] = -1
    if options.keeps_order:
        wanted["x-single-active-consumer"] = True
    if options.priority:
        wanted["x-max-priority"] = PRIORITIES
    for name, value in (settings or {}).items():
        if name != "exchange":
            wanted[f"x-{name}"] = int(value) if value.lstrip("-").isdecimal() else value
    return wanted


class Definitions:
    """What a virtual host has, seen through one connection."""

    def __init__(self, connection: Connection, options: Options, version: tuple[int, ...]) -> None:
        self._connection = connection
        self._options = options
        self._version = version

    async def _ask(self, method: str, **settings: Any) -> Any:  # noqa: ANN401 - pika's
        channel = await self._connection.channel()
        try:
            return await channel.ask(method, **settings)
        finally:
            await channel.aclose()

    async def _exists(self, kind: Literal["exchange", "queue"], name: str) -> bool:
        try:
            await self._ask(f"{kind}_declare", **{kind: name}, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            return False
        return True

    async def has_exchange(self, name: str) -> bool:
        """Whether there is such an exchange."""
        return await self._exists("exchange", name)

    async def must_have(self, queue: str) -> None:
        """Raise pika's 404 where there is no such queue."""
        await self._ask("queue_declare", queue=queue, passive=True)

    async def is_single(self, queue: str) -> bool | None:
        """Whether an existing queue has a single active consumer; None: we may not ask.

        The server tells how a queue is made only to one who declares it differently: declared as we make it, it either
        is so or the server names what is not.
        """
        wanted = arguments(self._options, self._version)
        while True:
            try:
                await self._ask("queue_declare", queue=queue, durable=True, arguments=wanted)
            except ChannelClosedByBroker as error:
                both = conflict(error)
                if error.reply_code == REFUSED or both is None or both.argument == "durable":
                    return None
                if both.argument == "x-single-active-consumer":
                    return False
                if not _follow(wanted, both):
                    return None
            else:
                return True

    # ------------------------------------------------------------ provisioning

    async def provision(self, topology: Topology, *, make: bool) -> Sequence[Drift]:
        """Make what is missing, or say that it is; one `Drift` for each thing."""
        settings = topology.settings
        kind = settings.get("exchange", "fanout")
        if kind not in EXCHANGES:
            raise OptionError(
                f"setting exchange={kind} is not accepted: one of {', '.join(EXCHANGES)}", backend=NAME
            )
        drifts = await self._exchange(topology.destination, kind, make=make)
        if topology.dead_letter is not None:
            drifts += await self._exchange(topology.dead_letter, "fanout", make=make)
        wanted = arguments(self._options, self._version, settings)
        for group in topology.groups:
            queue = queue_of(topology.destination, group)
            drifts += await self._queue(f"group {group}", queue, wanted, make=make)
            if make:
                await self._ask("queue_bind", queue=queue, exchange=topology.destination)
        return [*drifts, *await self._ladder(make=make)]

    async def _exchange(self, name: str, kind: str, *, make: bool) -> list[Drift]:
        what = f"destination {name}"
        found = await self._exists("exchange", name)
        if not found and not make:
            return [Drift(what=what, state="missing")]
        both = await self._declare("exchange_declare", exchange=name, exchange_type=kind, durable=True)
        return _drifts(what, both, found=found)

    async def _queue(self, what: str, name: str, wanted: Mapping[str, Any], *, make: bool) -> list[Drift]:
        found = await self._exists("queue", name)
        if not found and not make:
            return [Drift(what=what, state="missing")]
        both = await self._declare("queue_declare", queue=name, durable=True, arguments=dict(wanted))
        return _drifts(what, both, found=found)

    async def _declare(self, method: str, **settings: Any) -> Conflict | None:  # noqa: ANN401 - pika's
        """Declare something; returns both sides where it is another."""
        try:
            await self._ask(method, **settings)
        except ChannelClosedByBroker as error:
            both = conflict(error)
            if both is None:
                raise
            return both
        return None

    async def _ladder(self, *, make: bool) -> list[Drift]:
        """The queues in which retries wait: others made them too, so they are told of only where they were not."""
        there = await self._exists("exchange", ladder.EXCHANGE)
        if not there and not make:
            return [Drift(what="retry ladder", state="missing")]
        missing = 0
        for rung in ladder.RUNGS:
            name = ladder.queue(rung)
            (drift,) = await self._queue("retry ladder", name, ladder.arguments(rung), make=make)
            if drift.state == "differs":
                return [drift]
            missing += drift.state in ("created", "missing")
        if missing and not make:
            return [Drift(what="retry ladder", state="missing", detail=f"{missing} of its queues")]
        if make and (missing or not there):
            await self._ask(
                "exchange_declare", exchange=ladder.EXCHANGE, exchange_type="headers", durable=True
            )
            for rung in ladder.RUNGS:
                bound = {"x-match": "all", "unimsg-rung": rung}
                await self._ask(
                    "queue_bind", queue=ladder.queue(rung), exchange=ladder.EXCHANGE, arguments=bound
                )
            return [Drift(what="retry ladder", state="created")]
        return []

    async def forget(self, queue: str) -> None:
        """Delete the queue of a group that nobody reads with."""
        await self._ask("queue_delete", queue=queue)


def _drifts(what: str, both: Conflict | None, *, found: bool) -> list[Drift]:
    if both is not None:
        return [Drift(what=what, state="differs", detail=f"{both.argument}: {both.is_}, not {both.wanted}")]
    return [Drift(what=what, state="present" if found else "created")]


def _follow(wanted: dict[str, Any], both: Conflict) -> bool:
    """Take the server's side of an argument that is not ours to judge; False: it is the same already."""
    before = wanted.get(both.argument)
    if both.is_ == "none":
        wanted.pop(both.argument, None)
    else:
        wanted[both.argument] = int(both.is_) if both.is_.lstrip("-").isdecimal() else both.is_
    return wanted.get(both.argument) != before
