"""The ActiveMQ backend: one broker, or an active one and its standbys, behind the contract of `unimsg.spi`.

Law: opens what the others use, and closes it. The way out is in `sender`, the way in is in `receiver`, one connection
in `connection`, the protocol in `stomp`, the meaning of errors in `trouble`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Literal

from unimsg.backends.activemq import trouble, wire
from unimsg.backends.activemq.capabilities import declare
from unimsg.backends.activemq.connection import Connection, Endpoints
from unimsg.backends.activemq.directory import Directory, Known
from unimsg.backends.activemq.options import Options
from unimsg.backends.activemq.receiver import ActiveMQReceiver
from unimsg.backends.activemq.sender import ActiveMQSender
from unimsg.errors import CapabilityError, ClosedError, Error, OptionError
from unimsg.options import check_name
from unimsg.spi import Drift, Events, Start, Topology

FORBIDDEN = frozenset("*>,?/: .")
"""Signs that mean something in the name of a destination; a dot would part a group from what follows."""
_probes = count(1)


class ActiveMQBackend:
    """The broker of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._endpoints = Endpoints(options)
        self._directory = Directory(self._endpoints, options)
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Connect and say who we are: one attempt, at the next endpoint each time."""
        await self._connected()

    async def _connected(self) -> Connection:
        """Return the connection for questions, made anew after it was lost."""
        async with self._lock:
            self._check_open()
            if self._connection is None or self._connection.error is not None:
                self._connection = await self._endpoints.connect()
            return self._connection

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the backend is closed", backend=trouble.NAME)

    async def open_sender(self, destination: str, /) -> ActiveMQSender:
        """Open the way into a virtual topic, with a connection of its own."""
        self._check_open()
        self._check("destination", destination)
        sender = ActiveMQSender(destination, self._endpoints, self._directory, self.options)
        await sender.open()
        return sender

    async def open_receiver(
        self,
        destination: str,
        group: str | None,
        start: Start,
        events: Events,
        prefetch: int,
        /,
    ) -> ActiveMQReceiver:
        """Open the way out of the queue that a group has of a virtual topic."""
        self._check_open()
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=trouble.NAME,
                destination=destination,
            )
        self._check("destination", destination)
        self._check("group", group)
        await self._directory.check(destination, group)
        receiver = ActiveMQReceiver(destination, group, self._endpoints, self.options, events, prefetch)
        await receiver.open()
        return receiver

    async def probe(self) -> None:
        """Begin a transaction and drop it."""
        connection = await self._connected()
        name = {"transaction": f"p{next(_probes)}"}
        await connection.ask("BEGIN", name, within=self.options.open_timeout)
        await connection.ask("ABORT", name, within=self.options.open_timeout)

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Look at, or bring into being, a virtual topic and the queues of its groups."""
        destination = topology.destination
        self._check("destination", destination)
        for group in topology.groups:
            self._check("group", group)
        if topology.settings:
            names = ", ".join(sorted(topology.settings))
            raise OptionError(f"nothing can be set over STOMP: leave {names} out", backend=trouble.NAME)
        if mode == "assume":
            return []
        wanted = {f"destination {destination}": wire.topic(destination)}
        wanted |= {f"group {group}": wire.queue(destination, group) for group in topology.groups}
        if mode == "ensure":
            made = await self._directory.make(list(wanted.values()))
            return [_created(what, place, made) for what, place in wanted.items()]
        known = await self._directory.look()
        if known is None:
            raise CapabilityError(
                "this broker does not tell what there is: let the user read ActiveMQ.Advisory.>, and the broker have "
                "XStream and Jettison on its class path, as its distribution has",
                missing=("provision",),
                backend=trouble.NAME,
                destination=destination,
            )
        there = [known.has(destination), *(known.has_group(destination, group) for group in topology.groups)]
        return [
            Drift(what=what, state="present" if found else "missing", detail=place)
            for (what, place), found in zip(wanted.items(), there, strict=True)
        ]

    def _check(self, kind: str, name: str) -> None:
        check_name(kind, name, names=self.options.names, backend=trouble.NAME)
        if set(name) & FORBIDDEN or not name.isprintable():
            raise OptionError(
                f"{kind} {name!r} is no name here: it cannot hold any of {''.join(sorted(FORBIDDEN))!r}",
                backend=trouble.NAME,
            )

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of a socket or of TLS."""
        return trouble.translate(error)

    async def aclose(self) -> None:
        """Disconnect; a sender or receiver that could not be closed before loses its connection now."""
        self._closed = True
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                await connection.aclose()
        finally:
            await self._endpoints.aclose()


def _created(what: str, place: str, made: Known | None) -> Drift:
    """Say what became of one thing that was to be made."""
    if made is None:
        told = f"{place}, unless it was there: this broker does not tell"
        return Drift(what=what, state="created", detail=told)
    return Drift(what=what, state="created" if made.holds(place) else "present", detail=place)
