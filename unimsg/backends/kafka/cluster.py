"""Cluster: what is asked about topics and groups, and what is made of them when an operator wants it.

Law: asks the brokers, keeps nothing. aiokafka's admin client answers with codes, not with exceptions: they are read
here. An answer that does not come makes this client useless, and the next one is opened by the backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from unimsg.backends.kafka.capabilities import BATCH_LIMIT
from unimsg.backends.kafka.clients import Clients
from unimsg.backends.kafka.connecting import Access
from unimsg.backends.kafka.trouble import NAME
from unimsg.errors import NotFoundError, OptionError
from unimsg.spi import Drift, Topology

NOT_EMPTY, NO_GROUP = 68, 69
"""The codes of a group that has members, and of one that there is not."""
EXISTS = 36
"""The code of a topic that somebody else made just now."""
SHAPE = frozenset({"partitions", "replication"})
"""Settings of a topology that are no configuration of the topic."""


class Topic(NamedTuple):
    """What is known of a topic.

    Attributes:
        partitions: how many it has.
        limit: the most that a batch may have, in bytes.
        compacted: whether a record without a key is refused.
    """

    partitions: int
    limit: int
    compacted: bool = False


class Cluster:
    """The brokers, as an operator sees them.

    Attributes:
        asked: how many questions wait for their answer; who asks counts.
    """

    def __init__(self, access: Access, clients: Clients) -> None:
        self.asked = 0
        self._clients = clients
        self._admin: Any = clients.own(AIOKafkaAdminClient(**access.settings))

    async def open(self) -> None:
        """Connect: one attempt."""
        await self._clients.start(self._admin)

    def drop(self) -> None:
        """Disconnect, and wait for nothing."""
        self._clients.drop(self._admin)

    async def probe(self) -> None:
        """Ask who is there."""
        await self._admin.describe_topics([])

    async def topic(self, name: str) -> Topic:
        """Return what is known of a topic.

        Raises:
            NotFoundError: a broker answered that there is none.
        """
        partitions = await self._partitions(name)
        if partitions is None:
            raise NotFoundError(
                "there is no such topic: make it with `unimsg provision`", backend=NAME, destination=name
            )
        configuration = await self._configuration(name)
        limit = configuration.get("max.message.bytes", BATCH_LIMIT)
        return Topic(partitions, int(limit), "compact" in configuration.get("cleanup.policy", ""))

    async def forget(self, name: str, group: str) -> None:
        """Delete a group that has read this topic and no other; one that lives, or reads others too, stays."""
        if any(part.topic != name for part in await self._admin.list_consumer_group_offsets(group)):
            return
        coordinator = await self._admin.find_coordinator(group)
        request = DeleteGroupsRequest([group])
        answer = await self._admin._send_request(request, coordinator)  # noqa: SLF001 - aiokafka has no method for it
        ((_, code),) = answer.results
        if code not in (NOT_EMPTY, NO_GROUP):
            _raise(code)

    async def _partitions(self, name: str) -> int | None:
        (found,) = await self._admin.describe_topics([name])
        error = for_code(found["error_code"])
        if error is UnknownTopicOrPartitionError:
            return None
        _raise(found["error_code"])
        return len(found["partitions"])

    async def _configuration(self, name: str) -> Mapping[str, str]:
        """Return the configuration of a topic; empty where we may not read it."""
        (answer,) = await self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        code, _, _, _, entries = answer.resources[0]
        return {entry[0]: entry[1] for entry in entries} if code == 0 else {}

    # ------------------------------------------------------------ provisioning

    async def provision(self, topology: Topology, *, make: bool) -> Sequence[Drift]:
        """Make topics that are missing, or say that they are; groups come into being with their first member."""
        drifts = await self._provide(topology.destination, topology.settings, make=make)
        if topology.dead_letter is not None:
            drifts += await self._provide(topology.dead_letter, {}, make=make)
        return drifts

    async def _provide(self, name: str, settings: Mapping[str, str], *, make: bool) -> list[Drift]:
        what = f"destination {name}"
        partitions = await self._partitions(name)
        if partitions is None and not make:
            return [Drift(what=what, state="missing")]
        if partitions is None:
            return [Drift(what=what, state="created" if await self._create(name, settings) else "present")]
        return [Drift(what=what, state="present"), *await self._differences(name, partitions, settings)]

    async def _create(self, name: str, settings: Mapping[str, str]) -> bool:
        """Make a topic; returns whether it was this call that made it."""
        partitions, replication = _number(settings, "partitions"), _number(settings, "replication")
        topic = NewTopic(
            name,
            partitions,
            replication,
            replica_assignments={}
            if -1 in (partitions, replication)
            else None,  # aiokafka wants it exactly so
            topic_configs={known: value for known, value in settings.items() if known not in SHAPE},
        )
        answer = await self._admin.create_topics([topic])
        code = answer.topic_errors[0][1]
        if code == EXISTS:
            return False
        _raise(code, answer.topic_errors[0][2] if len(answer.topic_errors[0]) > 2 else "")  # noqa: PLR2004 - version 1
        while await self._partitions(name) is None:
            """The controller has it; the broker that was asked will have it in a moment."""
        return True

    async def _differences(self, name: str, partitions: int, settings: Mapping[str, str]) -> list[Drift]:
        """Say in what a topic is not as it is wanted; nothing of an existing one is changed unasked."""
        found: list[Drift] = []
        wanted = _number(settings, "partitions")
        if wanted not in (-1, partitions):
            found.append(
                Drift(what=f"partitions of {name}", state="differs", detail=f"{partitions}, not {wanted}")
            )
        configuration = await self._configuration(name) if set(settings) - SHAPE else {}
        for known, value in settings.items():
            if known not in SHAPE and configuration.get(known, value) != value:
                detail = f"{configuration[known]}, not {value}"
                found.append(Drift(what=f"{known} of {name}", state="differs", detail=detail))
        return found


def _number(settings: Mapping[str, str], name: str) -> int:
    """Return a setting that is a number; -1: the broker decides."""
    text = settings.get(name, "-1")
    if not text.lstrip("-").isdecimal():
        raise OptionError(f"setting {name}={text} is not accepted: give a whole number", backend=NAME)
    return int(text)


def _raise(code: int, message: str | None = "") -> None:
    error: type[KafkaError] = for_code(code)
    if code:
        raise error(message or "")
