"""Member: a consumer in its group: what it was given, and how that is taken away.

Law: knows aiokafka's consumer and `Events`; fetches and commits nothing. aiokafka rebalances eagerly: each join and
leave takes every partition from every member for a moment. Kafka fences no late commit that comes from a member in good
standing, so the assignment object does: a new one at each assignment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError, UnknownError

from unimsg.backends.kafka import trouble
from unimsg.backends.kafka.clients import Clients
from unimsg.backends.kafka.cluster import Topic
from unimsg.backends.kafka.connecting import Access
from unimsg.backends.kafka.options import Options
from unimsg.backends.kafka.positions import Positions, check
from unimsg.errors import ConfigError, ConnectionLostError, UnavailableError
from unimsg.spi import Assignment, Events, Start

JOIN = 10.0
"""Seconds for a join, beyond what other members may take to hand over."""
LOOK_UP = 1.0
"""Seconds of waiting after which it is looked whether something else is the matter."""
STORM, STORM_WINDOW = 4, 5.0
"""So many assignments in so many seconds mean that two live members share an `instance_id`."""
UNNAMED = UnknownError.__name__
"""In a join, what aiokafka 0.14 says for FENCED_INSTANCE_ID, a code that it does not know."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not seen by the checker
    """One member of a group, on one topic.

    Attributes:
        consumer: of aiokafka.
        held: what it holds now, by aiokafka's name of the partition.
        failure: what happened in a callback and has to be raised where somebody listens.
    """

    def __init__(
        self,
        name: str,
        group: str,
        topic: Topic,
        access: Access,
        options: Options,
        events: Events,
        start: Start,
        clients: Clients,
    ) -> None:
        check(start, name)
        self.consumer = clients.own(_consumer(group, access, options))
        self.positions = Positions(self.consumer, name, topic.partitions, start)
        self.held: dict[Any, Assignment] = {}
        self.failure: Exception | None = None
        self._name = name
        self._nowhere = TopicPartition(name, -1)
        self._group = group
        self._options = options
        self._events = events
        self._clients = clients
        self._left: Callable[[], None] = lambda: None
        self._joined = asyncio.Event()
        self._beginning: asyncio.Timeout | None = None
        self._given_at: list[float] = []
        self._time = asyncio.get_running_loop().time

    async def join(self, left: Callable[[], None]) -> None:
        """Connect and ask to join; `left` is called whenever all partitions were taken away."""
        self._left = left
        try:
            await self._clients.start(self.consumer)
            await self.positions.open()
            self.consumer.subscribe([self._name], listener=self)
        except BaseException:
            self._clients.drop(self.consumer)
            raise

    async def aclose(self) -> None:
        """Leave the group; a broker that does not answer is not waited for."""
        self.leave()
        await self._clients.end(self.consumer)

    async def share(self) -> None:
        """Return when this member has its share, which may be nothing.

        Raises:
            UnavailableError: the group did not come to rest in time.
            ConfigError: two live members have one `instance_id`.
            KafkaError: the group refused this member otherwise.
        """
        self.check()
        if self._joined.is_set():
            return
        patience = self._options.handover * 2 + JOIN
        try:
            async with asyncio.timeout(patience):
                while not self._joined.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_UP):
                            await self._joined.wait()
                    await self.poll()
        except TimeoutError:
            raise UnavailableError(
                f"group {self._group!r} has given this member no share in {patience:g} s",
                backend=trouble.NAME,
                destination=self._name,
            ) from None

    async def poll(self) -> None:
        """Say that this member is alive, and take nothing; waits for the end of a rebalance."""
        await self.take(self._nowhere)

    async def take(self, *parts: TopicPartition, **how: int) -> dict[TopicPartition, list[Any]]:
        """Return what was fetched, as aiokafka's `getmany` does.

        aiokafka keeps why a join was refused for whoever asks next, and does not try again before.

        Raises:
            ConfigError: two live members have one `instance_id`.
            KafkaError: the group refused this member otherwise.
        """
        try:
            records: dict[TopicPartition, list[Any]] = await self.consumer.getmany(*parts, **how)
        except KafkaError as error:
            if self._options.instance_id is not None and UNNAMED in str(error):
                raise self._doubled() from error
            raise
        return records

    def check(self) -> None:
        """Raise what went wrong in a callback, once."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def owns(self, assignment: Assignment) -> bool:
        """Whether an assignment is this member's still."""
        return assignment.live and self.held.get(assignment.native) is assignment

    def owned(self, assignments: Sequence[Assignment]) -> list[Any]:
        """Return aiokafka's names of those that are."""
        return [assignment.native for assignment in assignments if self.owns(assignment)]

    # ------------------------------------------------------------ what aiokafka calls

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits it
        """These are given: put where the group starts if they were never read, before anything of them is taken."""
        if assigned and not await self._begin(assigned):
            return
        self.held = {part: Assignment(f"{part.topic}-{part.partition}", part) for part in sorted(assigned)}
        self._events.assigned(list(self.held.values()))
        self._watch_for_a_storm()
        self._joined.set()

    async def _begin(self, assigned: set[Any]) -> bool:
        """Return whether all of these stand where they have to."""
        self.consumer.pause(*assigned)
        try:
            async with asyncio.timeout(None) as self._beginning:
                await self.positions.begin(assigned)
        except (TimeoutError, CommitFailedError):
            return False  # it has left, or the group moves on: then other partitions are given
        except (KafkaError, OSError) as error:
            self.failure = ConnectionLostError(
                f"where group {self._group!r} begins could not be found out: {error}",
                backend=trouble.NAME,
                destination=self._name,
            )
            self._joined.set()
            return False
        finally:
            self._beginning = None
        self.consumer.resume(*(assigned & self.consumer.assignment()))
        return True

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits it
        """All are taken: drained first while this member is in good standing, lost when it is not."""
        self._joined.clear()
        held = list(self.held.values())
        if held and not self._is_expelled():
            await self._events.revoked(held, self._time() + self._options.handover)
        self.leave()
        if held and self._is_expelled():
            self._events.lost(held)

    def leave(self) -> None:
        """Nothing is this member's any more."""
        for assignment in self.held.values():
            assignment.live = False
        self.held = {}
        if self._beginning is not None and not self._beginning.expired():
            self._beginning.reschedule(self._time())
        self._left()

    def _is_expelled(self) -> bool:
        """Whether the group goes on without this member: then its partitions are somebody else's already."""
        coordinator: Any = self.consumer._coordinator  # noqa: SLF001 - aiokafka calls back alike in both cases
        return coordinator is not None and coordinator.generation < 0

    def _watch_for_a_storm(self) -> None:
        if self._options.instance_id is None:
            return
        now = self._time()
        self._given_at = [at for at in self._given_at if now - at < STORM_WINDOW] + [now]
        if len(self._given_at) >= STORM:
            self.failure = self._doubled()

    def _doubled(self) -> ConfigError:
        return ConfigError(
            f"instance_id={self._options.instance_id} is another live member's too, and the group does not come to "
            "rest: give each replica its own",
            backend=trouble.NAME,
            destination=self._name,
        )


def _consumer(group: str, access: Access, options: Options) -> AIOKafkaConsumer:
    """Return a consumer, not started."""
    rebalance = options.handover + JOIN
    settings = dict(access.settings)
    # A join is answered when every member has come, so it may last as long as a rebalance.
    settings["request_timeout_ms"] = int(max(options.request_timeout, rebalance + 5.0) * 1000)
    return AIOKafkaConsumer(
        **settings,
        group_id=group,
        group_instance_id=options.instance_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=f"read_{options.isolation}",
        session_timeout_ms=int(options.session * 1000),
        heartbeat_interval_ms=int(min(1.0, options.session / 4) * 1000),
        max_poll_interval_ms=int(options.poll_interval * 1000),
        rebalance_timeout_ms=int(rebalance * 1000),
        max_partition_fetch_bytes=options.fetch,
        # "range" is what Java's consumers speak too, so both can share a group.
        partition_assignment_strategy=(RangePartitionAssignor,),
        client_rack=options.rack,
    )
