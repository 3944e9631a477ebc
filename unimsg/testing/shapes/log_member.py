"""The reading side of `loglike`: topics, groups, and the members that share their partitions.

Law: as `log`; a rebalance is cooperative, what a member keeps it never stops reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from unimsg.errors import AssignmentLostError, BackendError, ClosedError, Error, SettleError
from unimsg.message import Position, WireMessage
from unimsg.spi import Assignment, Events, Received, ReceiveLimits, Settlement, Start
from unimsg.testing.shapes.common import Bell

NAME = "loglike"


class Topic:
    """The records of each partition, and the groups that read them."""

    def __init__(self, name: str, partitions: int) -> None:
        self.name = name
        self.records: list[list[tuple[float, WireMessage]]] = [[] for _ in range(partitions)]
        self.groups: dict[str, Group] = {}
        self.bell = Bell()
        self.turn = 0

    def offset(self, partition: int, start: Start) -> int:
        """Return where `start` is in a partition."""
        records = self.records[partition]
        if start == "oldest":
            return 0
        if start == "newest":
            return len(records)
        if isinstance(start, datetime):
            moment = start.timestamp()
            return next((at for at, (when, _) in enumerate(records) if when >= moment), len(records))
        assert isinstance(start, Position)
        if start.partition != f"{self.name}-{partition}":
            return 0
        return int(start.offset)


class Group:
    """The members of one group, what each of them holds, and how far each partition is committed."""

    def __init__(self, topic: Topic, drain: float) -> None:
        self.topic = topic
        self.committed: dict[int, int] = {}
        self.members: list[LogReceiver] = []
        self._drain = drain
        self._changed = False
        self._task: asyncio.Task[None] | None = None

    def join(self, member: LogReceiver) -> None:
        """A member asks for its share."""
        self.members.append(member)
        self.rebalance()

    def leave(self, member: LogReceiver) -> None:
        """A member is gone; its share goes to the others."""
        if member in self.members:
            self.members.remove(member)
        for held in member.held.values():
            held.live = False
        member.held.clear()
        self.rebalance()

    def kick(self, member: LogReceiver) -> None:
        """Put a member out: what it holds is lost, without a chance to drain."""
        gone = list(member.held.values())
        self.leave(member)
        if gone:
            member.events.lost(gone)

    def rebalance(self) -> None:
        """Share the partitions among the members, cooperatively."""
        self._changed = True
        if self._task is None and self.members:
            self._task = asyncio.create_task(self._rebalance(), name=f"loglike.rebalance[{self.topic.name}]")
            self._task.add_done_callback(self._rebalanced)

    def _rebalanced(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def settled(self) -> None:
        """Return when no rebalance runs."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    async def _rebalance(self) -> None:
        while self._changed:
            self._changed = False
            target = self._target()
            moving = {
                member: [a for p, a in member.held.items() if target.get(p) is not member]
                for member in list(self.members)
            }
            await asyncio.gather(*(self._revoke(m, gone) for m, gone in moving.items() if gone))
            if self._changed:
                continue
            for member in list(self.members):
                given = [p for p, owner in target.items() if owner is member and p not in member.held]
                if given:
                    member.given(given)
            self.topic.bell.ring()

    def _target(self) -> dict[int, LogReceiver]:
        count = len(self.members)
        return {p: self.members[p % count] for p in range(len(self.topic.records)) if count}

    async def _revoke(self, member: LogReceiver, gone: list[Assignment]) -> None:
        """Let a member drain; one that leaves meanwhile is not waited for."""
        deadline = asyncio.get_running_loop().time() + self._drain
        drain = asyncio.ensure_future(member.events.revoked(gone, deadline))
        closed = asyncio.ensure_future(member.closed.wait())
        try:
            await asyncio.wait((drain, closed), timeout=self._drain, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (drain, closed):
                task.cancel()
            await asyncio.gather(drain, closed, return_exceptions=True)
        for assignment in gone:
            assignment.live = False
            if member.held.get(assignment.native) is assignment:
                del member.held[assignment.native]


class LogReceiver:
    """One member of a group."""

    def __init__(self, group: Group, start: Start, events: Events, *, wait: float, max_poll: float) -> None:
        self.limits = ReceiveLimits(
            max_messages=500,
            wait=wait,
            ack="cumulative",
            retry="core",
            handback_keeps_order=False,
            poll_every=max_poll / 3,
            release="none",
        )
        self.events = events
        self.held: dict[int, Assignment] = {}
        self.closed = asyncio.Event()
        self._group = group
        self._start: Start = start
        self._next: dict[Assignment, int] = {}
        self._paused: set[Assignment] = set()
        self._stopped = False
        self._turn = 0
        self._loop = asyncio.get_running_loop()
        self._max_poll = max_poll
        self._polled = self._loop.time()
        self._polling = 0
        self._watch = self._loop.call_later(self._max_poll, self._check)
        group.join(self)

    def given(self, partitions: Sequence[int]) -> None:
        """These are this member's now, from where the group is."""
        topic, committed = self._group.topic, self._group.committed
        new: list[Assignment] = []
        for partition in partitions:
            if partition not in committed:
                committed[partition] = topic.offset(partition, self._start)
            assignment = Assignment(f"{topic.name}-{partition}", native=partition)
            self.held[partition] = assignment
            self._next[assignment] = committed[partition]
            new.append(assignment)
        self.events.assigned(new)

    def _check(self) -> None:
        now = self._loop.time()
        late = not self._polling and now - self._polled >= self._max_poll
        if late and self in self._group.members:
            self._group.kick(self)
        due = self._max_poll if self._polling or late else self._polled + self._max_poll - now
        self._watch = self._loop.call_later(due, self._check)

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """Fetch from the partitions in turn; a call for nothing keeps the membership."""
        if self.closed.is_set():
            raise ClosedError("the receiver is closed", backend=NAME)
        if self not in self._group.members and not self._stopped:
            self._group.join(self)  # it was put out, and comes back
        deadline = self._loop.time() + wait
        self._polling += 1
        try:
            while True:
                batch = self._fetch(max_messages)
                if batch or self._stopped or self._loop.time() >= deadline:
                    return batch
                await self._group.topic.bell.wait(deadline)
        finally:
            self._polling -= 1
            self._polled = self._loop.time()

    def _fetch(self, most: int) -> list[Received]:
        ready = [a for a in self.held.values() if a.live and a not in self._paused]
        if not ready or most <= 0 or self._stopped:
            return []
        self._turn += 1
        ready = ready[self._turn % len(ready) :] + ready[: self._turn % len(ready)]
        batch: list[Received] = []
        share = -(-most // len(ready))
        for assignment in ready:
            batch += self._read(assignment, min(share, most - len(batch)))
        return batch

    def _read(self, assignment: Assignment, most: int) -> list[Received]:
        topic, start = self._group.topic, self._next[assignment]
        records = topic.records[assignment.native][start : start + most]
        self._next[assignment] = start + len(records)
        return [
            Received(
                message=message,
                token=offset,
                lane=message.key,
                assignment=assignment,
                position=Position(partition=assignment.id, offset=offset),
            )
            for offset, (_, message) in enumerate(records, start)
        ]

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Commit positions; a late commit is fenced."""
        await asyncio.sleep(0)
        return [self._commit(settlement) for settlement in settlements]

    def _commit(self, settlement: Settlement) -> Error | None:
        assignment = settlement.assignment
        if settlement.verb != "ack" or assignment is None:
            return SettleError(f"a log cannot {settlement.verb}", backend=NAME)
        if self.held.get(assignment.native) is not assignment:
            return AssignmentLostError(f"{assignment.id} is another member's now", backend=NAME)
        self._group.committed[assignment.native] = settlement.token + 1
        return None

    def pause(self, assignments: Sequence[Assignment], /) -> None:
        """Fetch no more from these."""
        self._paused.update(assignments)

    def resume(self, assignments: Sequence[Assignment], /) -> None:
        """Fetch from these again."""
        self._paused.difference_update(assignments)
        self._group.topic.bell.ring()

    async def seek(self, start: Start, /) -> None:
        """Move the whole group."""
        group = self._group
        await group.settled()
        if len(group.members) > 1:
            raise BackendError(
                f"the group has {len(group.members) - 1} other live members: stop them first", backend=NAME
            )
        for partition in range(len(group.topic.records)):
            if not isinstance(start, Position) or start.partition == f"{group.topic.name}-{partition}":
                group.committed[partition] = group.topic.offset(partition, start)

    async def lag(self) -> int | None:
        """How many records stand before this member."""
        records = self._group.topic.records
        return sum(len(records[a.native]) - self._next[a] for a in self.held.values())

    async def stop_intake(self) -> None:
        """Fetch nothing more; the membership stays until it is closed."""
        self._stopped = True
        self._group.topic.bell.ring()

    async def aclose(self, *, abort: bool = False) -> None:  # noqa: ARG002 - leaving asks nobody here
        """Leave the group."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._watch.cancel()
        await self.stop_intake()
        self._group.leave(self)
        if not self._group.members:
            await self._group.settled()
