"""Entry: one message on its way out, and who waits for its end.

Law: data and one transition, made once: waiting -> sent (-> waiting, when it is to be sent again) -> ended.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from unimsg.errors import Error
from unimsg.message import Receipt, WireMessage

if TYPE_CHECKING:
    from unimsg.publishing.lanes import Lane

Outcome: TypeAlias = Receipt | Error

WAITING, SENT, ENDED = 0, 1, 2


class Entry(Struct, eq=False):
    """One message on its way; `end` is called exactly once.

    Attributes:
        message: as it goes out; never changed, so each resend has the same id.
        deadline: `loop.time()` at which its caller gets an answer in any case.
        state: WAITING (not handed over), SENT (a sender has it), ENDED.
        size: encoded bytes, as the sender measures.
        lane: where it queues; None before a sender is open.
        beside: those it waits with to be sent again, when it asked for no order; None: it waits in its lane.
        tries: how often a sender refused it for now.
        error: why it is not out yet; None: no reason but its turn.
    """

    message: WireMessage
    deadline: float
    state: int = WAITING
    size: int = 0
    lane: Lane | None = None
    beside: OrderedDict[Entry, None] | None = None
    tries: int = 0
    error: Error | None = None

    def end(self, outcome: Outcome) -> None:
        """Tell whoever waits."""
        raise NotImplementedError


class Single(Entry, eq=False):
    """The entry of one `publish`.

    Attributes:
        outcome: its end, once there is one.
        future: wakes the caller; None while nobody waits. An error is a result of it, not its exception, so that a
            caller who has gone leaves no exception unread.
    """

    outcome: Outcome | None = None
    future: asyncio.Future[None] | None = None

    def end(self, outcome: Outcome) -> None:
        """Wake the caller."""
        self.state = ENDED
        self.outcome = outcome
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Part(Entry, eq=False, kw_only=True):
    """One entry of a `publish_many`."""

    call: Call
    index: int

    def end(self, outcome: Outcome) -> None:
        """Note the result in its place."""
        self.state = ENDED
        self.call.note(self.index, outcome)


class Call:
    """One `publish_many`: a result for each message, and how many are still out.

    Attributes:
        results: in the order of the messages; None: not ended yet.
        left: how many are out.
        halted: keys of which one message was not confirmed and may be published again by the caller: what comes
            after it under that key must not overtake it, so it is not sent (promise 4).
        failed: whether any ended otherwise than confirmed.
    """

    __slots__ = ("_future", "_until", "failed", "halted", "left", "results")

    def __init__(self) -> None:
        self.results: list[Outcome | None] = []
        self.left = 0
        self.halted: set[str] = set()
        self.failed = False
        self._until = -1
        self._future: asyncio.Future[None] | None = None

    def note(self, index: int, outcome: Outcome) -> None:
        """One message has ended."""
        self.results[index] = outcome
        self.left -= 1
        if type(outcome) is not Receipt:
            self.failed = True
        if self.left <= self._until:
            self._until = -1
            if self._future is not None and not self._future.done():
                self._future.set_result(None)

    async def until(self, left: int) -> None:
        """Return when no more than `left` messages are out."""
        if self.left > left:
            self._until = left
            self._future = asyncio.get_running_loop().create_future()
            await self._future
