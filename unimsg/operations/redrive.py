"""Redrive: give dead letters back to where they came from, once their handler can deal with them.

Law: nothing is lost. A dead letter is published again and confirmed before it is acked, so a crash in the middle leaves
it where it was, at worst a second time; the number in its header lets an idempotent handler tell. What is left where it
is goes back uncounted when the run ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec.structs import replace

from unimsg.capabilities import Capabilities
from unimsg.consuming.dead_letter import DeadLetterInfo, read
from unimsg.consuming.delivery import Delivery
from unimsg.consuming.limiter import Limiter
from unimsg.consuming.settings import Given
from unimsg.consuming.subscriber import Subscriber
from unimsg.errors import Error, OptionError, RejectedError, SettleError
from unimsg.headers import redriven
from unimsg.message import Receipt, WireMessage

READER = "redrive"
"""The group that reads dead letters, where the service has groups; see `reader`."""
LONGEST_GROUP = 60
"""Characters of a name that every service takes."""
IN_HAND = 10_000
"""Dead letters that one run leaves where they are, at most; so many, and it ends."""
IN_HAND_BYTES = 32 * 1024 * 1024
"""The same for the bytes of their bodies: half of what a subscriber has in hand at most."""
WINDOW = 100
"""Dead letters that are on their way at once."""
SHOWN = 20
"""Sentences about failures that a report holds."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, as a filter sees it.

    Attributes:
        message: as it lies there: the body as bytes, key, id, headers.
        info: what its header says: reason, error type, attempts, origin, group; None where another program wrote it.
    """

    message: WireMessage
    info: DeadLetterInfo | None


Filter: TypeAlias = Callable[[Letter], bool]
Publish: TypeAlias = Callable[[str, WireMessage], Awaitable[Receipt]]


@dataclass(slots=True)
class Redriven:
    """What became of the dead letters.

    Attributes:
        looked_at: how many were read.
        redriven: how many were given back; with `dry_run`, how many would have been.
        left: how many stay: the filter or the group said so, or they do not say where they came from.
        failed: how many could not be published; they stay.
        complete: everything there was looked at; False: the limit was reached, or too many stay for one run.
        dry_run: nothing was published.
        errors: of those given back, how many for each type of error, or reason where there was none.
        failures: why some could not be published, the first twenty.
    """

    looked_at: int = 0
    redriven: int = 0
    left: int = 0
    failed: int = 0
    complete: bool = True
    dry_run: bool = False
    errors: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[str] = ()


def check(*, rate: float | None, limit: int | None, native: bool, narrowed: bool) -> None:
    """Refuse what cannot be meant.

    Raises:
        OptionError: nothing was opened.
    """
    for name, value in (("rate", rate), ("limit", limit)):
        if value is not None and not value > 0:
            raise OptionError(f"{name}={value!r} is not accepted: give a number above 0, or leave it out")
    if native and narrowed:
        raise OptionError(
            "native moves all of them: give no filter, dry_run, rate or limit, or leave native out"
        )


def reader(dead_letter: str, capabilities: Capabilities) -> str | None:
    """Return the group that reads these dead letters; None where there are no groups.

    Where members share partitions, those of a group do so over all its destinations: two runs in one group would take
    everything from each other again and again. So there each destination has a group of its own.
    """
    if not capabilities.groups:
        return None
    return f"{READER}-{dead_letter}"[:LONGEST_GROUP] if capabilities.ordering == "partition" else READER


def settings(group: str | None) -> Given:
    """Return how dead letters are read: nobody waits for those that stay.

    A quarter of the prefetch is what a service gives of one lane.
    """
    return {
        "group": group,
        "order": "none",
        "concurrency": IN_HAND,
        "prefetch": 4 * IN_HAND,
    }


class Redrive:
    """One run.

    Args:
        subscriber: to the dead letters, bodies as bytes.
        publish: publishes a message as it is to a destination, and returns when that is confirmed.
        destination: where to; None: where each came from.
        group: for whom.
        filter: which; None: all.
        dry_run: only count.
        rate: messages a second; None: as fast as it goes.
        limit: how many at most; None: all.
    """

    def __init__(
        self,
        subscriber: Subscriber[bytes | None],
        publish: Publish,
        *,
        destination: str | None,
        group: str | None,
        filter: Filter | None,  # noqa: A002 - the word of the design
        dry_run: bool,
        rate: float | None,
        limit: int | None,
    ) -> None:
        self._subscriber = subscriber
        self._publish = publish
        self._destination = destination
        self._group = group
        self._filter = filter
        self._limit = limit
        self._limiter = Limiter(rate) if rate is not None else None
        self._report = Redriven(dry_run=dry_run)
        self._errors: Counter[str] = Counter()
        self._failures: list[str] = []
        self._held = self._bytes = 0
        self._fatal: Error | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> Redriven:
        """Look at every dead letter there is, give back those that are wanted.

        Raises:
            Error: the way out or in is broken; what was not confirmed stays where it was.
        """
        report = self._report
        try:
            async with aclosing(self._subscriber.until_idle()) as letters:
                await self._all(letters)
        finally:
            report.errors, report.failures = dict(self._errors.most_common()), tuple(self._failures)
        if self._fatal is not None:
            raise self._fatal
        return report

    async def _all(self, letters: AsyncIterator[Delivery[bytes | None]]) -> None:
        try:
            async for delivery in letters:
                await self._or_leave(delivery, self._one(delivery))
                if self._enough():
                    self._report.complete = False
                    break
            while self._under_way:
                await asyncio.wait(self._under_way)
        finally:  # cancelled, or a filter raised: what is not confirmed by now stays
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _enough(self) -> bool:
        report = self._report
        wanted = report.redriven + len(self._under_way)
        return (
            self._fatal is not None
            or (self._limit is not None and wanted >= self._limit)
            or self._held >= IN_HAND
            or self._bytes >= IN_HAND_BYTES
        )

    async def _or_leave(self, delivery: Delivery[bytes | None], work: Awaitable[None]) -> None:
        """Do the work; a dead letter that it did not settle stays, also when a filter raises or this is cancelled."""
        try:
            await work
        except BaseException:
            self._leave(delivery)
            raise

    async def _one(self, delivery: Delivery[bytes | None]) -> None:
        report = self._report
        report.looked_at += 1
        letter = Letter(delivery.message, read(delivery.headers))
        where = self._where(letter)
        if where is None:
            report.left += 1
            self._leave(delivery)
        elif report.dry_run:
            self._count(letter)
            self._leave(delivery)
        else:
            if self._limiter is not None:
                await self._limiter.wait()
            while len(self._under_way) >= WINDOW:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            work = self._or_leave(delivery, self._give_back(delivery, letter, where))
            task = asyncio.create_task(work, name="unimsg.redrive")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _where(self, letter: Letter) -> str | None:
        """Where a dead letter is to go; None: it stays."""
        info = letter.info
        where = self._destination or (info.origin.destination if info is not None else None)
        if info is not None and info.group != self._group and self._group is not None:
            return None
        if where is None or (self._filter is not None and not self._filter(letter)):
            return None
        return where

    async def _give_back(self, delivery: Delivery[bytes | None], letter: Letter, where: str) -> None:
        message = letter.message
        again = replace(message, headers=redriven(message.headers, self._group))
        try:
            await self._publish(where, again)
        except Error as error:
            self._report.failed += 1
            if len(self._failures) < SHOWN:
                self._failures.append(f"{message.id}: {error}")
            if not isinstance(error, RejectedError):
                self._fatal = (
                    self._fatal or error
                )  # not the fault of this one message: the others would fail too
            self._leave(delivery)
            return
        try:
            await delivery.ack()
        except SettleError as error:  # it will be found again, and be recognised by its number
            self._failures.append(f"{message.id}: redriven, and still a dead letter: {error}")
        if (task := asyncio.current_task()) is not None:
            self._under_way.discard(task)  # not when the loop calls back: until then it would count twice
        self._count(letter)

    def _count(self, letter: Letter) -> None:
        info = letter.info
        self._report.redriven += 1
        self._errors[(info.error_type or info.reason) if info is not None else "unknown"] += 1

    def _leave(self, delivery: Delivery[Any]) -> None:
        self._held += 1
        self._bytes += len(delivery.message.body or b"")
        self._subscriber.set_aside(delivery)
