"""The Kafka backend: one cluster behind the contract of `unimsg.spi`.

Law: opens what the others use, and closes it. The way out is in `sender`, the way in is in `receiver`, what stands
between a URL and a connection is in `connecting` and `msk`, the meaning of errors is in `trouble`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from aiokafka.errors import KafkaError

from unimsg.backends.kafka import trouble
from unimsg.backends.kafka.capabilities import declare, refine
from unimsg.backends.kafka.clients import Clients
from unimsg.backends.kafka.cluster import Cluster
from unimsg.backends.kafka.connecting import Access, access, greet
from unimsg.backends.kafka.member import Member
from unimsg.backends.kafka.options import Options
from unimsg.backends.kafka.receiver import KafkaReceiver
from unimsg.backends.kafka.sender import KafkaSender
from unimsg.errors import CapabilityError, ClosedError, Error, OptionError
from unimsg.options import check_name
from unimsg.spi import Drift, Events, Start, Topology

T = TypeVar("T")
LONGEST_NAME = 249
"""Characters of a topic's name (org.apache.kafka.common.internals.Topic)."""


class KafkaBackend:
    """The cluster of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._access: Access | None = None
        self._cluster: Cluster | None = None
        self._clients = Clients()
        self._lock = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Find the brokers, say who we are, and learn who they are: one attempt."""
        await self._connected()

    async def _connected(self) -> tuple[Access, Cluster]:
        """Return the way to the cluster, found anew after it was lost."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=trouble.NAME)
        async with self._lock:
            if self._access is None or self._cluster is None:
                found = await self._resolve()
                brokers = await greet(found)
                cluster = Cluster(found, self._clients)
                try:
                    await cluster.open()
                except BaseException:
                    cluster.drop()
                    raise
                self.capabilities = refine(declare(self.options), brokers)
                self._access, self._cluster = found, cluster
            return self._access, self._cluster

    async def _resolve(self) -> Access:
        options = self.options
        if not options.is_msk:
            return access(options, options.servers, options.method)
        from unimsg.backends.kafka.msk import find  # noqa: PLC0415 - loads the client library of AWS

        found: Access = await find(options)
        return found

    async def _ask(self, question: Callable[[Cluster], Awaitable[T]]) -> T:
        """Ask the cluster once; after an answer that did not come it is connected anew the next time."""
        _, cluster = await self._connected()
        cluster.asked += 1
        try:
            return await question(cluster)
        except (KafkaError, OSError, TimeoutError) as error:
            self._lose(cluster)
            ours = trouble.translate(error)
            if ours is None:
                raise
            raise ours from error
        except asyncio.CancelledError:  # often since no answer came in time
            self._lose(cluster)
            raise
        finally:
            cluster.asked -= 1
            if cluster is not self._cluster and not cluster.asked:
                cluster.drop()

    def _lose(self, cluster: Cluster) -> None:
        if self._cluster is cluster:
            self._cluster = None

    async def open_sender(self, destination: str, /) -> KafkaSender:
        """Open the way into a topic, with a producer of its own."""
        self._check("destination", destination)
        topic = await self._ask(lambda cluster: cluster.topic(destination))
        found, _ = await self._connected()
        sender = KafkaSender(destination, topic, found, self.options, self._clients)
        await sender.open()
        return sender

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> KafkaReceiver:
        """Open the way out of a topic for one member of a group."""
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=trouble.NAME,
                destination=destination,
            )
        self._check("destination", destination)
        self._check("group", group)
        topic = await self._ask(lambda cluster: cluster.topic(destination))
        found, _ = await self._connected()
        member = Member(destination, group, topic, found, self.options, events, start, self._clients)
        receiver = KafkaReceiver(destination, topic, member, self.options)
        await receiver.open()
        return receiver

    async def probe(self) -> None:
        """Ask a broker who is there."""
        await self._ask(lambda cluster: cluster.probe())

    async def forget(self, destination: str, group: str, /) -> None:
        """Delete a group; see `unimsg.spi.Forgets`. One that reads other topics too stays."""
        await self._ask(lambda cluster: cluster.forget(destination, group))

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make topics, or say what is missing; settings: `partitions`, `replication`, and what a topic can be told."""
        self._check("destination", topology.destination)
        for group in topology.groups:
            self._check("group", group)
        if topology.dead_letter is not None:
            self._check("destination", topology.dead_letter)
        if mode == "assume":
            return []
        return await self._ask(lambda cluster: cluster.provision(topology, make=mode == "ensure"))

    def _check(self, kind: str, name: str) -> None:
        check_name(kind, name, names=self.options.names, backend=trouble.NAME)
        legal = name.isascii() and not set(name) - set(_LEGAL) and name not in (".", "..")
        if kind == "destination" and not (legal and len(name) <= LONGEST_NAME):
            raise OptionError(
                f"destination {name!r} is no name of a topic: use up to {LONGEST_NAME} of A-Z a-z 0-9 . _ -",
                backend=trouble.NAME,
            )

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of aiokafka's."""
        return trouble.translate(error)

    async def aclose(self) -> None:
        """Disconnect; senders and receivers are closed before, what is left of them is ended here."""
        self._closed = True
        self._cluster = None
        await self._clients.aclose()


_LEGAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
