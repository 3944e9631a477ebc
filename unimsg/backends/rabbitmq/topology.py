"""Topology: exchanges, queues, bindings and the retry ladder, as an operator wants them.

Law: asks and declares, never deletes. What exists is looked at first, passively, so that nothing is made unasked; then
it is declared as it is wanted, and where the server says that it is another (406) both sides are told. Each such answer
closes the channel, so that the next question has a new one.

A destination is a fanout exchange; a group is the queue `destination.group`, bound to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pika.exceptions import ChannelClosedByBroker

from unimsg.backends.rabbitmq import ladder
from unimsg.backends.rabbitmq.capabilities import DELIVERY_LIMIT, UNLIMITED
from unimsg.backends.rabbitmq.connection import Channel, Connection
from unimsg.backends.rabbitmq.options import Options
from unimsg.backends.rabbitmq.trouble import LOCKED, NAME, NOT_FOUND, REFUSED, Conflict, conflict
from unimsg.errors import OptionError
from unimsg.spi import Drift, Topology

PRIORITIES = 9
EXCHANGES = {"fanout": "", "direct": "", "topic": "#", "headers": "", "x-consistent-hash": "1"}
"""The types of an exchange, and the routing key with which a group's queue is bound unless another is given."""
SETTINGS = ("exchange", "binding")
"""What is said of a destination that is no argument of its queues."""


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
        if name not in SETTINGS:
            wanted[f"x-{name}"] = _value(value)
    return wanted


class Made(NamedTuple):
    """How an existing queue is made, as far as it concerns us; what a policy says is not told."""

    kind: str
    durable: bool
    single: bool
    limit: int | None
    """Deliveries after the first until the server gives a message up; None: it never does."""


class Definitions:
    """What a virtual host has, seen through one connection; to be closed."""

    def __init__(self, connection: Connection, options: Options, version: tuple[int, ...]) -> None:
        self._connection = connection
        self._options = options
        self._version = version
        self._channel: Channel | None = None

    async def _ask(self, method: str, **settings: Any) -> Any:  # noqa: ANN401 - pika's
        channel = self._channel
        if channel is None or channel.error is not None:
            self._channel = channel = await self._connection.channel()
        return await channel.ask(method, **settings)

    async def aclose(self) -> None:
        """Give the channel back."""
        channel, self._channel = self._channel, None
        if channel is not None:
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

    async def made(self, queue: str) -> Made | None:
        """Return how an existing queue is made; None: we may not ask."""
        found = arguments(self._options, self._version)
        conflicts = await self._conflicts(queue, found)
        if conflicts is None:
            return None
        return Made(
            kind=str(found.get("x-queue-type", "classic")),
            durable=all(both.argument != "durable" for both in conflicts),
            single=found.get("x-single-active-consumer") is True,
            limit=_limit(found, self._version),
        )

    async def _conflicts(self, queue: str, wanted: dict[str, Any]) -> list[Conflict] | None:
        """Return in what a queue is another than wanted, which is then made what the queue is; None: we may not ask.

        The server tells how a queue is made only to one who declares it differently, and of one argument at a time.
        """
        durable, told = True, list[Conflict]()
        while True:
            try:
                await self._ask("queue_declare", queue=queue, durable=durable, arguments=dict(wanted))
            except ChannelClosedByBroker as error:
                both = conflict(error)
                if error.reply_code in (REFUSED, LOCKED):
                    return None
                if both is None:
                    raise
                told.append(both)
                if both.argument == "durable" and durable:
                    durable = False
                elif not _follow(wanted, both):
                    return told
            else:
                return told

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
            drifts.append(await self._queue(f"group {group}", queue, wanted, make=make))
            if make:
                binding = settings.get("binding", EXCHANGES[kind])
                await self._ask("queue_bind", queue=queue, exchange=topology.destination, routing_key=binding)
        return [*drifts, *await self._ladder(make=make)]

    async def _exchange(self, name: str, kind: str, *, make: bool) -> list[Drift]:
        what = f"destination {name}"
        found = await self._exists("exchange", name)
        if not found and not make:
            return [Drift(what=what, state="missing")]
        try:
            await self._ask("exchange_declare", exchange=name, exchange_type=kind, durable=True)
        except ChannelClosedByBroker as error:
            both = conflict(error)
            if both is None:
                raise
            return [_drift(what, [both], found=found)]
        return [_drift(what, [], found=found)]

    async def _queue(self, what: str, name: str, wanted: Mapping[str, Any], *, make: bool) -> Drift:
        found = await self._exists("queue", name)
        if not found and not make:
            return Drift(what=what, state="missing")
        conflicts = await self._conflicts(name, dict(wanted))
        if conflicts is None:
            return Drift(what=what, state="present", detail="how it is made may not be asked")
        return _drift(what, conflicts, found=found)

    async def _ladder(self, *, make: bool) -> list[Drift]:
        """The queues in which retries wait: others made them too, so they are told of only where they were not."""
        there = await self._exists("exchange", ladder.EXCHANGE)
        if not there and not make:
            return [Drift(what="retry ladder", state="missing")]
        missing = 0
        for rung in ladder.RUNGS:
            name = ladder.queue(rung)
            drift = await self._queue("retry ladder", name, ladder.arguments(rung), make=make)
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


def _drift(what: str, conflicts: Sequence[Conflict], *, found: bool) -> Drift:
    if conflicts:
        told = "; ".join(f"{both.argument}: {both.is_}, not {both.wanted}" for both in conflicts)
        return Drift(what=what, state="differs", detail=told)
    return Drift(what=what, state="present" if found else "created")


def _limit(made: Mapping[str, Any], version: tuple[int, ...]) -> int | None:
    """Return the delivery limit of a queue that is made so."""
    if made.get("x-queue-type") != "quorum":
        return None
    limit = made.get("x-delivery-limit", DELIVERY_LIMIT if version >= UNLIMITED else -1)
    return limit if isinstance(limit, int) and limit >= 0 else None


def _follow(wanted: dict[str, Any], both: Conflict) -> bool:
    """Take the server's side of an argument; False: it is the same already."""
    before = wanted.get(both.argument)
    if both.is_ == "none":
        wanted.pop(both.argument, None)
    else:
        wanted[both.argument] = _value(both.is_)
    return wanted.get(both.argument) != before


def _value(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdecimal() else text
