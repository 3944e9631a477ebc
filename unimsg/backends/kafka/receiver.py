"""Receiver: records of the partitions that a member holds, as messages, and the commits of what is done.

Law: fetches and commits what it is asked to; no retry, no handler, no policy. Whose the partitions are is in `member`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from unimsg.backends.kafka import trouble, wire
from unimsg.backends.kafka.cluster import Topic
from unimsg.backends.kafka.member import LOOK_UP, Member
from unimsg.backends.kafka.options import Options
from unimsg.errors import (
    AssignmentLostError,
    BackendError,
    ClosedError,
    ConnectionLostError,
    Error,
    SettleError,
    TimedOutError,
    UnavailableError,
)
from unimsg.message import Position
from unimsg.spi import Assignment, Received, ReceiveLimits, Settlement, Start

MESSAGES = 500
"""Of one receive at most."""
COMMIT_LIMIT = 5.0
"""Seconds for one commit: aiokafka would try for ever."""
SETTLE_EVERY = 0.2
"""Seconds between two commits at most, while handlers are busy."""
IDLE, SURELY = 1.0, 5.0
"""Seconds after which an empty answer says that there is nothing: when all partitions said so, and in any case."""
SILENCE, SILENCE_ENDS = 5.0, 60.0
"""Seconds beyond a request's limit without a fetch: trouble; after the second the consumer is opened anew."""


class KafkaReceiver:
    """The way out of one topic for one member of a group."""

    def __init__(self, name: str, topic: Topic, member: Member, options: Options) -> None:
        self._name = name
        self._partitions = topic.partitions
        self._member = member
        self._consumer = member.consumer
        self._options = options
        self._paused: set[Any] = set()
        self._spare: list[Received] = []
        self._turn = 0
        self._heard = time.time()
        self._commit: asyncio.Timeout | None = None
        self._stopped = self._closed = False
        self._loop = asyncio.get_running_loop()
        self.limits = ReceiveLimits(
            max_messages=MESSAGES,
            wait=options.wait,
            idle=IDLE,
            ack="cumulative",
            settle_every=SETTLE_EVERY,
            retry="core",
            handback_keeps_order=False,
            poll_every=options.poll_interval / 3,
            release="none",
        )

    async def open(self) -> None:
        """Connect and ask to join; partitions come later, by `Events`."""
        await self._member.join(self._left)

    def _left(self) -> None:
        """All partitions were taken away: what is buffered, paused or being committed was of that time."""
        self._spare.clear()
        self._paused.clear()
        self._heard = time.time()
        if self._commit is not None and not self._commit.expired():
            self._commit.reschedule(self._loop.time())

    # ------------------------------------------------------------ in

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """See `unimsg.spi.Receiver`; safe to cancel: what was taken by then comes with the next call."""
        if self._closed:
            raise ClosedError("the receiver is closed", backend=trouble.NAME, destination=self._name)
        if self._stopped:
            return []
        if max_messages <= 0:
            with suppress(TimeoutError):  # a rebalance is under way: that this was asked counts all the same
                async with asyncio.timeout(1.0):
                    await self._member.poll()
            return []
        await self._member.share()
        if not self._spare:
            await self._fetch(max_messages, wait)
        received, self._spare = self._spare[:max_messages], self._spare[max_messages:]
        return received

    async def _fetch(self, most: int, wait: float) -> None:
        """Put what is there into `_spare`: a fair share of each partition, no more of the one that comes first.

        From there a cancelled call cannot lose it: its position has moved on, so it would never be fetched again.
        """
        member = self._member
        ready = [part for part in member.held if part not in self._paused]
        share = -(-most // max(1, len(ready)))
        if len(ready) > 1:
            self._turn = (self._turn + 1) % len(ready)
            for part in ready[self._turn :] + ready[: self._turn]:
                room = min(share, most - len(self._spare))
                if room > 0:
                    self._take(await member.take(part, max_records=room))
        now = self._loop.time()
        deadline = now + wait
        surely = deadline + (SURELY if wait <= IDLE else 0.0)
        while not self._spare and now < surely and not (now >= deadline and await self._is_drained()):
            pause = min(max(deadline - now, 0.1), LOOK_UP)
            self._take(await member.take(timeout_ms=int(pause * 1000), max_records=share))
            now = self._loop.time()
            member.check()
            self._listen()

    async def _is_drained(self) -> bool:
        """Whether every partition has said where it ends, and all before that was taken."""
        consumer = self._consumer
        end_of = consumer.last_stable_offset if self._options.isolation == "committed" else consumer.highwater
        with suppress(IllegalStateError):  # taken away meanwhile
            for part in list(self._member.held):
                end = end_of(part)
                if end is None or await consumer.position(part) < end:
                    return False
            return True
        return False

    def _take(self, records: dict[Any, list[Any]]) -> None:
        """Turn records into messages."""
        spare, decode = self._spare, wire.decode
        for part, found in records.items():
            assignment = self._member.held.get(part)
            if assignment is None:  # given and not announced yet: fetched again when it is
                self._consumer.seek(part, found[0].offset)
                continue
            name = assignment.id
            for record in found:
                message = decode(record.key, record.value, record.headers, record.timestamp)
                offset = record.offset
                position = Position(name, offset)
                spare.append(
                    Received(message, offset, message.key, assignment, position=position, native=record)
                )

    def _listen(self) -> None:
        """Tell when no broker has answered for long: aiokafka itself tries on and says nothing.

        Whoever has messages has heard of a broker.

        Raises:
            UnavailableError: for a while; ask again.
            ConnectionLostError: for so long that another consumer should look for the brokers anew.
        """
        asked = [part for part in self._member.held if part not in self._paused]
        if self._spare or not asked:
            self._heard = time.time()
            return
        polled = [at / 1000 for at in map(self._consumer.last_poll_timestamp, asked) if at]
        self._heard = max(self._heard, *polled) if polled else self._heard
        silence = time.time() - self._heard - self._options.request_timeout
        if silence > SILENCE:
            kind = ConnectionLostError if silence > SILENCE_ENDS else UnavailableError
            told = f"no broker has answered for {silence + self._options.request_timeout:.0f} s"
            raise kind(told, backend=trouble.NAME, destination=self._name)

    async def stop_intake(self) -> None:
        """Fetch nothing more; the membership stays until it is closed."""
        self._stopped = True

    def pause(self, assignments: Sequence[Assignment], /) -> None:
        """Fetch no more from these; what is buffered stays."""
        parts = self._member.owned(assignments)
        self._paused.update(parts)
        self._consumer.pause(*parts)

    def resume(self, assignments: Sequence[Assignment], /) -> None:
        """Fetch from these again."""
        parts = self._member.owned(assignments)
        self._paused.difference_update(parts)
        self._consumer.resume(*parts)

    async def lag(self) -> int | None:
        """How many records stand before this member; None while it has no share."""
        held = list(self._member.held)
        if not held:
            return None
        ends = await self._consumer.end_offsets(held)
        return sum([int(end - await self._consumer.position(part)) for part, end in ends.items()])

    # ------------------------------------------------------------ out

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Commit the positions behind the tokens, in one request; a late one is fenced."""
        offsets: dict[Any, int] = {}
        for settlement in settlements:
            assignment = settlement.assignment
            if settlement.verb == "ack" and assignment is not None and self._member.owns(assignment):
                offsets[assignment.native] = settlement.token + 1
        error = await self._committed(offsets) if offsets else None
        return [self._result(settlement, offsets, error) for settlement in settlements]

    def _result(self, settlement: Settlement, sent: dict[Any, int], error: Error | None) -> Error | None:
        assignment = settlement.assignment
        if settlement.verb != "ack" or assignment is None:
            return SettleError(f"a log cannot {settlement.verb}", backend=trouble.NAME)
        if assignment.native not in sent or (error is not None and not self._member.owns(assignment)):
            return AssignmentLostError(f"{assignment.id} was taken away", backend=trouble.NAME)
        return error

    async def _committed(self, offsets: dict[Any, int]) -> Error | None:
        """Commit once, within its limit, or until the partitions are taken away."""
        try:
            async with asyncio.timeout(COMMIT_LIMIT) as self._commit:
                await self._consumer.commit(offsets)
        except TimeoutError:
            return TimedOutError(f"a commit took longer than {COMMIT_LIMIT:g} s", backend=trouble.NAME)
        except (CommitFailedError, IllegalStateError) as error:
            lost = AssignmentLostError(f"the group has moved on: {error}", backend=trouble.NAME)
            lost.__cause__ = error
            return lost
        except KafkaError as error:
            return trouble.translate(error)
        finally:
            self._commit = None
        return None

    async def seek(self, start: Start, /) -> None:
        """Move the whole group; see `unimsg.spi.Seeks`."""
        await self._member.share()
        if len(self._member.held) < self._partitions:
            raise BackendError(
                "the group has other live members: stop them first",
                backend=trouble.NAME,
                destination=self._name,
            )
        await self._member.positions.move(start)

    async def aclose(self, *, abort: bool = False) -> None:
        """Leave the group; a broker that does not answer is not waited for."""
        if self._closed:
            return
        self._closed = True
        await self._member.aclose()
