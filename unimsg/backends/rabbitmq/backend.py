"""The RabbitMQ backend: one virtual host behind the contract of `unimsg.spi`.

Law: opens what the others use, and closes it. There is one connection for publishing and asking, and one for each
receiver: a server that is short of memory stops reading from who publishes, and acks must still reach it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from pika.exceptions import AMQPError

from unimsg.backends.rabbitmq import ladder
from unimsg.backends.rabbitmq.capabilities import declare, refine, version_of
from unimsg.backends.rabbitmq.connection import Connection, connect
from unimsg.backends.rabbitmq.options import Options
from unimsg.backends.rabbitmq.outlet import Outlet
from unimsg.backends.rabbitmq.receiver import RabbitReceiver
from unimsg.backends.rabbitmq.sender import RabbitSender
from unimsg.backends.rabbitmq.topology import Definitions, Made, queue_of
from unimsg.backends.rabbitmq.trouble import NAME, translate
from unimsg.errors import CapabilityError, ClosedError, Error, OptionError
from unimsg.options import check_name
from unimsg.spi import Drift, Events, Start, Topology

T = TypeVar("T")
log = logging.getLogger("unimsg.backends.rabbitmq")
LONGEST_NAME = 255


class RabbitBackend:
    """The virtual host of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()
        self._version: tuple[int, ...] = ()
        self._turn = -1
        self._lock = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Connect and learn who the server is: one attempt over the nodes."""
        await self._connected()

    async def _connected(self) -> Connection:
        """Return the connection for publishing, opened anew after it was lost."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)
        async with self._lock:
            connection = self._connection
            if connection is None or not connection.live:
                self._connection = connection = await self._new()
            return connection

    async def _new(self) -> Connection:
        self._turn += 1
        connection = await connect(self.options, self._turn)
        if self._closed:
            await connection.aclose(abort=True)
            raise ClosedError("the backend was closed meanwhile", backend=NAME)
        self._connections = {one for one in self._connections if one.live} | {connection}
        told = connection.properties
        version = version_of(told)
        if not version:
            log.warning("this server is no RabbitMQ that we know: %r", told.get("product"))
        self._version = version
        self.capabilities = refine(declare(self.options), self.options.kind, version)
        return connection

    async def _ask(self, question: Callable[[Definitions], Awaitable[T]]) -> T:
        """Ask on the connection for publishing, or on another one while the server does not listen to that."""
        connection = await self._connected()
        if connection.flows.is_set():
            return await self._asked(connection, question)
        other = await self._new()
        try:
            return await self._asked(other, question)
        finally:
            await other.aclose()

    async def _asked(self, connection: Connection, question: Callable[[Definitions], Awaitable[T]]) -> T:
        there = Definitions(connection, self.options, self._version)
        try:
            async with asyncio.timeout(self.options.open_timeout):
                try:
                    return await question(there)
                finally:
                    await there.aclose()
        except (AMQPError, OSError, TimeoutError) as error:
            ours = translate(error)
            if ours is None:
                raise
            raise ours from error

    async def open_sender(self, destination: str, /) -> RabbitSender:
        """Open the way into an exchange, with a channel of its own."""
        self._check("destination", destination)
        limit = self.capabilities.max_message_bytes or 0
        sender = RabbitSender(destination, self._connected, self.options, limit)
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
    ) -> RabbitReceiver:
        """Consume the queue of a group, on a connection of its own."""
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=NAME,
                destination=destination,
            )
        self._check("destination", destination)
        self._check("group", group)
        queue = queue_of(destination, group)
        connection = await self._new()
        try:
            has_ladder = await self._asked(connection, lambda there: self._look(there, queue))
            outlet = Outlet(self._connected, ladder.EXCHANGE, destination) if has_ladder else None
            channel = await connection.channel()
            receiver = RabbitReceiver(queue, connection, channel, outlet, self.options, events)
            await receiver.open(prefetch)
        except BaseException:
            await connection.aclose(abort=True)
            raise
        return receiver

    async def _look(self, there: Definitions, queue: str) -> bool:
        """Refuse a queue that cannot do what is promised; returns whether retries can wait at the server."""
        await there.must_have(queue)
        has_ladder = await there.has_exchange(ladder.EXCHANGE)
        made = await there.made(queue)
        if made is None:
            log.warning("%r: how it is made may not be asked: what depends on that is taken on trust", queue)
        else:
            self._judge(queue, made)
        if not has_ladder:
            log.warning("%r: there is no retry ladder, retries wait in memory: provision it", queue)
            self.capabilities = self.capabilities.lower(
                "a virtual host without retry ladder", attempts="process"
            )
        return has_ladder

    def _judge(self, queue: str, made: Made) -> None:
        if made.kind == "stream":
            raise OptionError("a stream cannot be consumed as a queue", backend=NAME, destination=queue)
        if self.options.keeps_order and not made.single:
            raise OptionError(
                "ordering=key needs a queue with x-single-active-consumer=true, this one has none: make it "
                "anew with `unimsg provision`, or leave ordering=key out",
                backend=NAME,
                destination=queue,
            )
        if made.limit is not None:
            log.warning(
                "%r has x-delivery-limit=%d: the server gives up what comes back more often, when consumers stop or "
                "die; provisioning makes queues without",
                queue,
                made.limit,
            )
        self.capabilities = refine(declare(self.options), made.kind, self._version, durable=made.durable)

    async def probe(self) -> None:
        """Ask for an exchange that every virtual host has."""
        await self._ask(lambda there: there.has_exchange("amq.fanout"))

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make exchanges, queues, bindings and the retry ladder, or say what is missing or differs.

        Settings: `exchange` (its type, fanout unless given), `binding` (the routing key of the groups; a topic's is #
        unless given), and arguments of the queues without their `x-`.
        """
        for name in filter(None, (topology.destination, topology.dead_letter)):
            self._check("destination", name)
        for group in topology.groups:
            self._check("group", group)
        if mode == "assume":
            return []
        return await self._ask(lambda there: there.provision(topology, make=mode == "ensure"))

    async def forget(self, destination: str, group: str, /) -> None:
        """Delete the queue of a group; see `unimsg.spi.Forgets`."""
        await self._ask(lambda there: there.forget(queue_of(destination, group)))

    def _check(self, kind: str, name: str) -> None:
        check_name(kind, name, names=self.options.names, backend=NAME)
        if len(name.encode("utf-8", "replace")) > LONGEST_NAME or name.startswith("amq."):
            raise OptionError(
                f"{kind} {name[:40]!r} is no name here: {LONGEST_NAME} bytes at most, not amq.…", backend=NAME
            )

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of pika's."""
        return translate(error)

    async def aclose(self) -> None:
        """Disconnect; senders and receivers are closed before, and what they could not close is closed here."""
        self._closed = True
        self._connection = None
        connections, self._connections = self._connections, set()
        await asyncio.gather(*(connection.aclose() for connection in connections))
