"""Confirms: what was published on one channel, and what the server says about each of it.

Law: pure. A message has one outcome: confirmed, refused, returned, or unknown when the channel ends; whatever is said a
second time is not heard. A return names no number, only the properties that were sent, and comes before the confirm of
the same message: so what is in flight has names that differ (promise 2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from unimsg.backends.rabbitmq.trouble import NAME
from unimsg.errors import Error, OutcomeUnknownError, UnavailableError, UnroutableError
from unimsg.message import Receipt

Outcome: TypeAlias = Receipt | Error
Name: TypeAlias = tuple[str | None, int]
"""Message id, and the number of the copy: 0 unless the same id is in flight already, or there is none."""


class Batch:
    """Messages that were published together; `settled` is done when each has its outcome."""

    __slots__ = ("_left", "outcomes", "settled")

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome | None] = [None] * count
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = count

    def settle(self, at: int, outcome: Outcome) -> None:
        """One has its outcome."""
        self.outcomes[at] = outcome
        self._left -= 1
        if not self._left and not self.settled.done():
            self.settled.set_result(None)

    def results(self) -> Sequence[Outcome]:
        """Return all outcomes; what has none yet is unknown."""
        unknown = OutcomeUnknownError("the message left and was not confirmed in time", backend=NAME)
        return [unknown if outcome is None else outcome for outcome in self.outcomes]


class Slot(NamedTuple):
    """One message in flight."""

    batch: Batch
    at: int
    name: Name


class Confirms:
    """The messages in flight on one channel."""

    __slots__ = ("_copies", "_destination", "_oldest", "_open", "_returned", "_tags", "last")

    def __init__(self, destination: str) -> None:
        self._destination = destination
        self._open: dict[int, Slot] = {}
        self._tags: dict[Name, int] = {}
        self._returned: dict[int, str] = {}
        self._oldest = 1
        self._copies = 0
        self.last = 0
        """The tag of the latest publish: the server counts as we do."""

    def __len__(self) -> int:
        return len(self._open)

    def name(self, message_id: str | None) -> Name:
        """Return a name for the next message that nothing in flight has."""
        if message_id is not None and (message_id, 0) not in self._tags:
            return message_id, 0
        self._copies += 1
        return message_id, self._copies

    def sent(self, batch: Batch, at: int, name: Name) -> None:
        """A message was written, with this name in its properties."""
        self.last += 1
        self._open[self.last] = Slot(batch, at, name)
        self._tags[name] = self.last

    def returned(self, name: Name, reason: str) -> None:
        """The server had no queue for it; its confirm follows."""
        tag = self._tags.get(name)
        if tag is not None:
            self._returned[tag] = reason

    def confirmed(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """The server has what it says, or refuses it."""
        for each in range(self._oldest, tag + 1) if multiple else (tag,):
            slot = self._open.pop(each, None)
            if slot is None:
                continue
            batch, at, name = slot
            self._tags.pop(name, None)
            if not accepted:
                batch.settle(at, self._refused())
            elif self._returned and each in self._returned:
                batch.settle(at, self._unroutable(self._returned.pop(each)))
            else:
                batch.settle(at, Receipt(name[0]))
        if multiple:
            self._oldest = max(self._oldest, tag + 1)

    def lost(self, why: str, refusal: Error | None = None) -> None:
        """The channel ended: what is in flight may have been stored or not; what came back was not.

        Args:
            why: what ended it.
            refusal: what the server has against one of the messages. It does not say which: that is certain only where
                no other is in flight.
        """
        certain = refusal if len(self._open) == 1 else None
        for tag, slot in list(self._open.items()):
            unknown: Error = OutcomeUnknownError(f"the message left and no answer came: {why}", backend=NAME)
            reason = self._returned.get(tag)
            slot.batch.settle(slot.at, certain or unknown if reason is None else self._unroutable(reason))
        self._open.clear()
        self._tags.clear()
        self._returned.clear()

    def _refused(self) -> Error:
        return UnavailableError(
            "the queue refused it (full, or without a majority)", backend=NAME, destination=self._destination
        )

    def _unroutable(self, reason: str) -> Error:
        return UnroutableError(
            f"{self._destination!r} has no queue for it ({reason}): provision a group",
            backend=NAME,
            destination=self._destination,
        )
