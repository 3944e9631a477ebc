"""Ledger: every entry that has not ended, where it stands, and the ends that are not a receipt.

Law: no I/O, no task, no clock of its own. Each entry stands in one place (before the first sender, in a lane, in a
flight) and ends once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from unimsg.errors import Error, OutcomeUnknownError
from unimsg.publishing.counters import Counters
from unimsg.publishing.entry import ENDED, SENT, WAITING, Call, Entry, Part
from unimsg.publishing.lanes import Lanes
from unimsg.publishing.outcomes import Wording

NEVER = float("inf")


class Flight:
    """One batch that a sender has.

    Attributes:
        batch: its entries, in the order they were handed over.
        deadline: the latest of theirs.
        inline: it is sent by the task of the caller, not by a pump.
        suspended: the event loop had a turn before the sender answered, as far as that was looked at.
        overdue: it was given up.
    """

    __slots__ = ("_cancelled", "_task", "batch", "deadline", "inline", "overdue", "suspended")

    def __init__(self, batch: list[Entry], task: asyncio.Task[Any] | None, *, inline: bool = False) -> None:
        self.batch = batch
        self.deadline = batch[0].deadline if len(batch) == 1 else max([entry.deadline for entry in batch])
        self.inline = inline
        self.suspended = False
        self.overdue = False
        assert task is not None  # noqa: S101 - it is sent by one
        self._task = task
        self._cancelled = task.cancelling()

    def note_suspension(self) -> None:
        """The event loop has a turn and the sender has not answered."""
        self.suspended = True

    def give_up(self) -> None:
        """Cancel the sending."""
        self.overdue = True
        self._task.cancel()

    def is_cancelled(self) -> bool:
        """Whether somebody cancelled the task that sends it: somebody else than `give_up`."""
        if self.overdue:
            self._task.uncancel()
        return self._task.cancelling() > self._cancelled


class Ledger:
    """What is out.

    Attributes:
        lanes: None before the first sender is open, since only a sender knows its lanes and limits.
        unopened: those that wait for that, in the order they came.
        flights: those that a sender has.
    """

    def __init__(self, wording: Wording) -> None:
        self.wording = wording
        self.counters = Counters()
        self.lanes: Lanes | None = None
        self.unopened: OrderedDict[Entry, None] = OrderedDict()
        self.flights: set[Flight] = set()
        self._watched: list[tuple[list[Entry], asyncio.Future[None]]] = []

    def __iter__(self) -> Iterator[Entry]:
        """All that have not ended; ending what is met is allowed."""
        yield from tuple(self.unopened)
        if self.lanes is not None:
            yield from self.lanes
        for flight in tuple(self.flights):
            yield from [entry for entry in flight.batch if entry.state == SENT]

    @property
    def waiting(self) -> int:
        """How many were not handed over yet."""
        return len(self.unopened) + (self.lanes.waiting if self.lanes is not None else 0)

    @property
    def in_flight(self) -> int:
        """How many a sender has and whose callers still wait."""
        return sum(entry.state == SENT for flight in self.flights for entry in flight.batch)

    def end(self, entry: Entry, error: Error) -> None:
        """End an entry otherwise than confirmed; what must not overtake it in its `publish_many` ends as well."""
        self._take_out(entry)
        entry.end(error)
        if isinstance(error, OutcomeUnknownError):
            self.counters.unknown += 1
        else:
            self.counters.not_published += 1
        if isinstance(entry, Part) and error.retryable and entry.message.key is not None:
            self._halt(entry, entry.message.key)

    def withdraw(self, entry: Entry) -> None:
        """The caller has gone: not published when it still waits, unknown when a sender has it."""
        if entry.state == ENDED:
            return
        if entry.state == WAITING:
            self._take_out(entry)
            self.counters.not_published += 1
        else:
            self.counters.unknown += 1
        entry.state = ENDED
        self.look()

    def abandon(self, call: Call) -> None:
        """The caller of a `publish_many` has gone."""
        for entry in tuple(self):
            if isinstance(entry, Part) and entry.call is call:
                self.withdraw(entry)

    def expire(self, now: float) -> float:
        """Answer every caller whose deadline has passed; returns the next deadline."""
        nearest = NEVER
        for entry in tuple(self):
            if entry.state == ENDED:
                continue
            if entry.deadline > now:
                nearest = min(nearest, entry.deadline)
            elif entry.state == SENT:
                self.end(entry, self.wording.unknown(None, "its timeout has passed"))
            else:
                self.end(
                    entry, self.wording.not_sent("its timeout passed before it could be sent", entry.error)
                )
        self.look()
        return nearest

    def crash(self, flight: Flight) -> None:
        """The task that sends it was cancelled from outside."""
        for entry in flight.batch:
            if entry.state == SENT:
                self.end(entry, self.wording.unknown(None, "it was cancelled while it was sent"))
        self.look()

    def end_all(self, happened: str) -> None:
        """Answer everybody."""
        for entry in tuple(self):
            if entry.state == SENT:
                self.end(entry, self.wording.unknown(entry.error, happened))
            elif entry.state == WAITING:
                self.end(entry, self.wording.not_sent(happened, entry.error))
        self.look()

    def halted(self) -> Error:
        """Return the end of a message whose key was held back."""
        return self.wording.not_sent("an earlier message of the same key was not confirmed")

    def watch(self) -> asyncio.Future[None]:
        """Return a future that is done when everything that is out now has ended; cancel it when it is not wanted."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watched.append((list(self), done))
        self.look()
        return done

    @property
    def watched(self) -> bool:
        """Whether somebody waits for everything to end."""
        return bool(self._watched)

    def look(self) -> None:
        """Wake those who wait for everything to end, if it has."""
        for entries, done in self._watched:
            while entries and entries[-1].state == ENDED:
                entries.pop()
            if not entries and not done.done():
                done.set_result(None)
        self._watched = [watch for watch in self._watched if not watch[1].done()]

    def _halt(self, entry: Part, key: str) -> None:
        call, lanes = entry.call, self.lanes
        if lanes is not None and (entry.lane is None or entry.lane.name is None):
            return  # no order is kept
        call.halted.add(key)
        for other in tuple(self.unopened) if lanes is None else lanes.behind(entry):
            if isinstance(other, Part) and other.call is call and other.message.key == key:
                self._take_out(other)
                other.end(self.halted())
                self.counters.not_published += 1

    def _take_out(self, entry: Entry) -> None:
        if entry.state != WAITING:
            return
        if entry in self.unopened:
            del self.unopened[entry]
        elif entry.lane is not None and self.lanes is not None:
            self.lanes.withdraw(entry)
