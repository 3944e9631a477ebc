"""Settler: gathers verdicts and settles them in batches; workers never wait for it.

Law: knows a receiver and its limits, and reports to a `Ledger`; no policy, no handler. Individual acks are sent as
they are; for a log only the last token of the contiguous done prefix of each assignment is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from unimsg.consuming.delivery import DONE, SETTLING, Delivery
from unimsg.consuming.watermark import Watermark
from unimsg.errors import Error, LeaseLostError, SettleError
from unimsg.spi import Assignment, Receiver, Settlement

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
SETTLE_TIMEOUT = 30.0
"""Seconds that one settle call may take before it counts as failed."""
TRIES = 6
"""How often a settlement is sent when the service cannot take it; then the delivery counts as lost: its lease ends."""


class Ledger(Protocol):
    """Where the results go."""

    def finished(self, deliveries: Sequence[AnyDelivery], outcome: str, /) -> None:
        """These are settled."""

    def lost(self, deliveries: Sequence[AnyDelivery], error: BaseException, /) -> None:
        """These cannot be settled any more."""


class Verdict(NamedTuple):
    """A settlement that is not a plain ack."""

    delivery: AnyDelivery
    verb: Literal["ack", "retry", "release"]
    delay: float
    outcome: str
    tries: int = 0


class Settler:
    """Gathers for up to `settle_every` seconds or a full batch, then settles."""

    def __init__(
        self, receiver: Receiver, ledger: Ledger, translate: Callable[[Exception], Error | None], name: str
    ) -> None:
        self._receiver = receiver
        self._limits = receiver.limits
        self._ledger = ledger
        self._translate = translate
        self._loop = asyncio.get_running_loop()
        self._acks: list[AnyDelivery] = []
        self._verdicts: list[Verdict] = []
        self._dirty: set[Assignment] = set()
        self.watermarks: dict[Assignment, Watermark] = {}
        self.cumulative = self._limits.ack == "cumulative"
        self._timer: asyncio.TimerHandle | None = None
        self._work = asyncio.Event()
        self._busy = 0
        self._refused = 0
        """Commits in a row that the service did not take."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks = [
            asyncio.create_task(self._run(), name=f"unimsg.settle[{name}]")
            for _ in range(self._limits.settle_in_flight)
        ]

    # ------------------------------------------------------------ in

    def ack(self, delivery: AnyDelivery) -> None:
        """The delivery is done."""
        delivery._state = DONE if self.cumulative else SETTLING
        acks = self._acks
        acks.append(delivery)
        if self._timer is None or len(acks) == self._limits.settle_messages:
            self._arm(full=len(acks) >= self._limits.settle_messages)

    def settle(
        self,
        delivery: AnyDelivery,
        verb: Literal["ack", "retry", "release"],
        outcome: str,
        delay: float = 0.0,
    ) -> None:
        """The delivery has this verdict, to be counted as `outcome`."""
        if self.cumulative:
            if verb == "ack":
                delivery._state = DONE
                self._mark((delivery,), outcome)
                self._arm(full=False)
            return
        delivery._state = SETTLING
        self._verdicts.append(Verdict(delivery, verb, delay, outcome))
        self._arm(full=False)

    def _mark(self, deliveries: Sequence[AnyDelivery], outcome: str) -> None:
        """These are done: the watermarks of their assignments may move."""
        self._ledger.finished(deliveries, outcome)
        for assignment in {delivery._received.assignment for delivery in deliveries}:
            if assignment is not None and assignment.live:
                self._dirty.add(assignment)

    def _arm(self, *, full: bool) -> None:
        if full:
            self.kick()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._limits.settle_every, self.kick)

    def kick(self) -> None:
        """Settle now what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._acks or self._verdicts or self._dirty:
            self._quiet.clear()
            self._work.set()

    async def flush(self) -> None:
        """Return when everything that was given a verdict is settled, or lost."""
        self.kick()
        await self._quiet.wait()

    async def aclose(self) -> None:
        """Stop at once; what is not settled by now stays unsettled."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        unsettled = [*self._acks, *(verdict.delivery for verdict in self._verdicts)]
        if unsettled:
            self._ledger.lost(unsettled, SettleError("the receiver was closed before this was settled"))
        self._quiet.set()

    # ------------------------------------------------------------ out

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._busy += 1
            try:
                while self._acks or self._verdicts or self._dirty:
                    if self.cumulative:
                        await self._commit()
                    else:
                        await self._settle()
            finally:
                self._busy -= 1
            self._work.clear()
            if not self._busy:
                self._quiet.set()

    async def _settle(self) -> None:
        limit = self._limits.settle_messages
        acks, self._acks = self._acks[:limit], self._acks[limit:]
        room = limit - len(acks)
        verdicts, self._verdicts = self._verdicts[:room], self._verdicts[room:]
        acks, verdicts = self._still_ours(acks, verdicts)
        batch = [Settlement("ack", d._received.token, d._received.assignment) for d in acks]
        batch += [_settlement(verdict) for verdict in verdicts]
        if not batch:
            return
        results = await self._call(batch, max((verdict.tries for verdict in verdicts), default=0))
        if not any(results):
            if acks:
                self._ledger.finished(acks, "acked")
            for verdict in verdicts:
                self._ledger.finished((verdict.delivery,), verdict.outcome)
            return
        verdicts = [Verdict(d, "ack", 0.0, "acked") for d in acks] + verdicts
        for verdict, error in zip(verdicts, results, strict=True):
            self._sort(verdict, error)

    def _still_ours(
        self, acks: list[AnyDelivery], verdicts: list[Verdict]
    ) -> tuple[list[AnyDelivery], list[Verdict]]:
        """Leave out what was lost while it waited here, and what is past its lease: that is never acked."""
        now = self._loop.time()
        late = [
            d
            for d in (*acks, *(v.delivery for v in verdicts))
            if d._state != SETTLING or ((until := d._received.lease_until) is not None and until <= now)
        ]
        if not late:
            return acks, verdicts
        gone = set(late)
        overdue = [d for d in late if d._state == SETTLING]
        if overdue:
            self._ledger.lost(overdue, LeaseLostError("the lease ended before the delivery was settled"))
        return [d for d in acks if d not in gone], [v for v in verdicts if v.delivery not in gone]

    def _sort(self, verdict: Verdict, error: Error | None) -> None:
        if error is None:
            self._ledger.finished((verdict.delivery,), verdict.outcome)
        elif isinstance(error, SettleError) or not error.retryable or self._tired(verdict):
            self._ledger.lost((verdict.delivery,), error)
        else:
            again = verdict._replace(tries=verdict.tries + 1)
            self._verdicts.append(again)

    def _tired(self, verdict: Verdict) -> bool:
        """Whether a settlement was tried often enough: never where no lease brings the message back without us."""
        return verdict.tries >= TRIES and verdict.delivery._received.lease_until is not None

    async def _call(self, batch: list[Settlement], before: int = 0) -> Sequence[Error | None]:
        """Settle; returns one result each, after a pause where some are to be tried again, `before` tries of before."""
        error: Error = SettleError("settling was not tried")
        for attempt in range(TRIES):
            try:
                async with asyncio.timeout(SETTLE_TIMEOUT):
                    results = await self._receiver.settle_batch(batch)
            except Exception as raised:  # noqa: BLE001 - a client library may raise anything; it is translated
                error = self._error(raised)
            else:
                if len(results) == len(batch):
                    retryable = [r for r in results if r is not None and r.retryable]
                    if retryable:
                        await asyncio.sleep(_pause(before + attempt, retryable[0]))
                    return results
                error = SettleError(
                    f"the backend answered {len(batch)} settlements with {len(results)} results"
                )
            if not error.retryable:
                break
            await asyncio.sleep(_pause(attempt, error))
        return [error] * len(batch)

    def _error(self, raised: Exception) -> Error:
        if isinstance(raised, Error):
            return raised
        translated = self._translate(raised)
        if translated is not None:
            return translated
        return SettleError(
            f"settling failed: {type(raised).__name__}", retryable=isinstance(raised, TimeoutError)
        )

    async def _commit(self) -> None:
        acks, self._acks = self._acks, []
        if acks:
            self._mark(acks, "acked")
        dirty, self._dirty = self._dirty, set()
        batch: list[Settlement] = []
        for assignment in dirty:
            watermark = self.watermarks.get(assignment)
            if watermark is None or not assignment.live:
                continue
            watermark.advance()
            token = watermark.take()
            if token is not None:
                batch.append(Settlement("ack", token, assignment))
        if not batch:
            return
        refused: Error | None = None
        for settlement, error in zip(batch, await self._call(batch), strict=True):
            given = settlement.assignment
            if error is None or given is None or not given.live:
                continue
            log.warning("commit of %s failed: %s", given.id, error)
            if error.retryable:  # the next commit covers this one: try again with whatever is done by then
                refused = error
                self.watermarks[given].moved = True
                self._dirty.add(given)
        self._refused = self._refused + 1 if refused is not None else 0
        if refused is not None:
            await asyncio.sleep(_pause(self._refused, refused))


def _settlement(verdict: Verdict) -> Settlement:
    delivery, verb = verdict.delivery, verdict.verb
    received, trouble = delivery._received, delivery._trouble
    return Settlement(
        verb,
        received.token,
        received.assignment,
        verdict.delay,
        delivery.attempt if verb == "retry" else delivery.attempt - 1,
        trouble.first if trouble is not None else None,
    )


def _pause(attempt: int, error: Error) -> float:
    pause: float = min(2.0, 0.05 * 2 ** min(attempt, 6))
    return max(error.retry_after or 0.0, pause)
