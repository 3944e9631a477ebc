"""Returns: what becomes of a batch whose answer is there: who has ended, what is sent again and when.

Law: one pass over the results, in order; no I/O and no timer. What a single result means is in `outcomes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import random

from msgspec import Struct

from unimsg.errors import Error, OutcomeUnknownError, ThrottledError, TimedOutError
from unimsg.message import Receipt
from unimsg.policies.backoff import backoff
from unimsg.publishing.entry import SENT, Entry, Part
from unimsg.publishing.lanes import Lane, Lanes
from unimsg.publishing.ledger import Ledger
from unimsg.publishing.outcomes import loses_sender, meaning, meaning_of_raised

FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds before a refused message is sent again: the first wait, doubled each time, up to the longest."""


class Trouble(Struct, frozen=True):
    """What a batch that was not confirmed whole means for those that follow.

    Attributes:
        sender_lost: the sender is of no further use.
        pause_until: `loop.time()` before which nothing should be sent; 0: no reason to wait.
    """

    sender_lost: bool
    pause_until: float


class Returns:
    """Brings results to the entries of one publisher."""

    def __init__(self, ledger: Ledger, translate: Callable[[Exception], Error | None]) -> None:
        self._ledger = ledger
        self._wording = ledger.wording
        self._translate = translate
        self._loop = asyncio.get_running_loop()

    def take(
        self,
        lanes: Lanes,
        batch: Sequence[Entry],
        results: Sequence[Receipt | Error],
        raised: BaseException | None,
    ) -> Trouble | None:
        """End each entry of a batch, or put it back to be sent again; None: all were confirmed."""
        if raised is not None or len(results) != len(batch):
            results = [self._told(raised, len(results), len(batch))] * len(batch)
        confirmed = 0
        troubled: list[tuple[Entry, Error]] = []
        for entry, result in zip(batch, results, strict=True):
            if type(result) is Receipt:
                if entry.state == SENT:
                    entry.end(result)
                    confirmed += 1
            elif isinstance(result, Error):
                troubled.append((entry, result))
            else:
                troubled.append(
                    (entry, OutcomeUnknownError(f"the sender's answer was {type(result).__name__}"))
                )
        self._ledger.counters.confirmed += confirmed
        if not troubled:
            return None
        dues = self._mend(lanes, troubled, raised=raised is not None)
        throttled = len(troubled) == len(batch) and all(
            isinstance(error, ThrottledError) for _, error in troubled
        )
        return Trouble(
            sender_lost=any(loses_sender(error, raised=raised is not None) for _, error in troubled),
            # All of them: the service says it, not one lane of it, and whatever is sent before is refused as well.
            pause_until=max(dues, default=0.0) if throttled else 0.0,
        )

    def _told(self, raised: BaseException | None, got: int, wanted: int) -> Error:
        """Return our error for what `send_batch` raised, or for an answer that cannot be matched to the messages."""
        if raised is None:
            return OutcomeUnknownError(
                f"the backend gave {got} results for {wanted} messages, against its contract"
            )
        if isinstance(raised, Error):
            return raised
        error: Error | None = None
        if isinstance(raised, asyncio.CancelledError):
            error = TimedOutError("the sender gave no answer and was given up")
        elif isinstance(raised, Exception):
            error = self._translate(raised)
        if error is None:
            error = OutcomeUnknownError(f"the sender failed with {type(raised).__name__}: {raised}")
        error.__cause__ = raised
        return error

    def _mend(self, lanes: Lanes, troubled: Sequence[tuple[Entry, Error]], *, raised: bool) -> list[float]:
        """End what must end, put back what is to be sent again; returns when that is."""
        now = self._loop.time()
        again: dict[Lane, list[Entry]] = {}
        dues: dict[Lane, float] = {}
        for entry, error in troubled:
            lane = entry.lane
            if entry.state != SENT or lane is None:
                continue  # its caller has an answer already
            what = meaning_of_raised(error) if raised else meaning(error)
            if what == "unknown":
                self._ledger.end(entry, self._wording.unknown(error))
            elif what == "refused":
                self._ledger.end(entry, self._wording.refused(error))
            elif (due := self._next_try(entry, error, now)) is not None:
                again.setdefault(lane, []).append(entry)
                dues[lane] = max(due, dues.get(lane, 0.0))
        for lane, entries in again.items():
            lanes.put_back(entries, dues[lane])
            self._ledger.counters.resent += len(entries)
        return list(dues.values())

    def _next_try(self, entry: Entry, error: Error, now: float) -> float | None:
        """Return when to send it again; None when it has ended, since that would be too late or out of order."""
        entry.tries += 1
        entry.error = error
        if isinstance(entry, Part) and entry.message.key in entry.call.halted:
            self._ledger.end(entry, self._ledger.halted())
            return None
        wait = backoff(
            entry.tries, initial=FIRST_WAIT, factor=2.0, max=LONGEST_WAIT, jitter="equal", random=random
        )
        due = now + max(wait, error.retry_after or 0.0)
        if due >= entry.deadline:
            happened = f"the message was refused {entry.tries} times, and its timeout ends before another try"
            self._ledger.end(entry, self._wording.not_sent(happened, error))
            return None
        return due
