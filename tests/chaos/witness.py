"""Witness: writes down what became of each delivery, as seen from inside a consumer.

Law: only looks. A completion is written after the service has confirmed the ack, or the store the effect: never
before, so that a kill between the two is not blamed on the backend, and a repetition after it is. A loss is written
only where something failed: what was drained in time and settled in order has no excuse to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from tests.chaos.ledger import Buried, Burying, Completed, Ledger, Lost, Retried
from tests.chaos.unanswered import Unanswered
from unimsg.client.client import Client
from unimsg.consuming.delivery import DONE
from unimsg.consuming.link import Link
from unimsg.consuming.loop import ConsumingLoop
from unimsg.consuming.verdicts import Verdicts
from unimsg.message import Receipt
from unimsg.spi import Assignment, Settlement

FINAL = frozenset({"acked", "dead_lettered"})
"""Outcomes after which a message may not come again."""
ACKED = FINAL | {"failed"}
"""Outcomes for which the service was told to forget a delivery."""


def identity(delivery: Any) -> tuple[int, str]:
    """Return which delivery of its process this is, and where the service keeps the message."""
    return delivery._seq, str(delivery.position or "")


def watch_loops(ledger: Ledger, me: str, unanswered: float = 0.0) -> None:
    """Watch every consuming loop of this process; see `Plan.unanswered`."""
    open_acks: dict[Link, Unanswered] = {}
    finished, lost, opened = ConsumingLoop.finished, ConsumingLoop.lost, ConsumingLoop.open_link

    def on_finished(loop: ConsumingLoop, deliveries: Sequence[Any], outcome: str, /) -> None:
        link = loop.link
        if outcome in ACKED and link in open_acks:
            open_acks[link].acked(deliveries, final=outcome in FINAL)
        elif outcome in ACKED and not (link is not None and link.settler.cumulative):
            kind = Completed if outcome in FINAL else Retried
            for delivery in deliveries:
                ledger.write(kind(me, delivery.id, delivery._seq))
        finished(loop, deliveries, outcome)

    def on_lost(loop: ConsumingLoop, deliveries: Sequence[Any], error: BaseException, /) -> None:
        before = set(loop.live)
        lost(loop, deliveries, error)
        for delivery in before - loop.live:
            ledger.write(Lost(me, delivery.id or "", delivery._seq, type(error).__name__))

    async def on_open(self: ConsumingLoop) -> Link:
        link = await opened(self)
        if link.settler.cumulative:
            Commits(link, ledger, me)
        elif unanswered:
            open_acks[link] = Unanswered(link, ledger, me, unanswered)
        return link

    ConsumingLoop.finished = on_finished  # type: ignore[method-assign]  # the one door to what becomes of a message
    ConsumingLoop.lost = on_lost  # type: ignore[method-assign]  # as above
    ConsumingLoop.open_link = on_open  # type: ignore[method-assign]  # as above
    _watch_burials(ledger, me)


def _watch_burials(ledger: Ledger, me: str) -> None:
    """A dead letter is announced before it is written: a kill may fall between the writing and the line about it."""
    written, publish = Verdicts._written, Client._publish_wire
    told: ContextVar[Receipt | None] = ContextVar("told", default=None)

    async def on_publish(self: Client, *message: Any) -> Any:
        receipt = await publish(self, *message)
        told.set(receipt)
        return receipt

    async def on_written(self: Verdicts, delivery: Any, reason: str) -> bool:
        take, at = identity(delivery)
        ledger.write(Burying(me, delivery.id or "", take, at))
        confirmed = False
        told.set(None)
        try:
            confirmed = await written(self, delivery, reason)
        finally:  # also when it was cancelled: then it may be there
            receipt = told.get()
            kept = str(receipt.position or "") if receipt is not None else ""
            ledger.write(Buried(me, delivery.id or "", take, confirmed, kept))
        return confirmed

    Client._publish_wire = on_publish  # type: ignore[method-assign, assignment]  # what it says of a dead letter nobody else hears
    Verdicts._written = on_written  # type: ignore[method-assign]  # the one door to dead letters


class Commits:
    """On a log: what a commit covers is completed when the commit is confirmed, not when the handler returned.

    What had its effect and was not committed is lost with its share only where the drain ran out of time, the last
    commit failed, or the share was gone before anybody was asked.
    """

    def __init__(self, link: Any, ledger: Ledger, me: str) -> None:
        self._ledger = ledger
        self._me = me
        self._out: dict[Assignment, list[Any]] = {}
        self._refused: set[Assignment] = set()
        self._deadline: float | None = None
        self._time = asyncio.get_running_loop().time
        self._track, self._settle = link.track, link.receiver.settle_batch
        self._revoke, self._lose, self._forget, self._close = (
            link.revoked,
            link.lost,
            link._forget,
            link.aclose,
        )
        link.track, link.receiver.settle_batch = self._tracked, self._settled
        link.revoked, link.lost, link._forget, link.aclose = (
            *(self._revoked, self._taken, self._forgotten),
            self._closed,
        )

    def _tracked(self, delivery: Any, assignment: Assignment) -> None:
        self._out.setdefault(assignment, []).append(delivery)
        self._track(delivery, assignment)

    async def _settled(self, settlements: Sequence[Settlement], /) -> Any:
        try:
            results = await self._settle(settlements)
        except BaseException:
            self._refused |= {one.assignment for one in settlements if one.assignment is not None}
            raise
        for settlement, error in zip(settlements, results, strict=True):
            if settlement.assignment is None:
                continue
            if error is not None:
                self._refused.add(settlement.assignment)
            else:
                self._refused.discard(settlement.assignment)
                self._commit(settlement.assignment, settlement.token)
        return results

    def _commit(self, assignment: Assignment, token: Any) -> None:
        before = self._out.get(assignment, [])
        count = next((at for at, each in enumerate(before, 1) if each._received.token == token), 0)
        for delivery in before[:count]:
            self._ledger.write(Completed(self._me, delivery.id, delivery._seq))
        del before[:count]

    # ------------------------------------------------------------ how a share goes

    async def _revoked(self, assignments: Sequence[Assignment], deadline: float, /) -> None:
        self._deadline = deadline
        try:
            await self._revoke(assignments, deadline)
        finally:
            self._deadline = None

    def _taken(self, assignments: Sequence[Assignment], /) -> None:
        self._excuse(assignments, "taken away")
        self._lose(assignments)

    def _forgotten(self, mine: set[Assignment]) -> None:
        if self._deadline is not None and self._time() >= self._deadline:
            self._excuse(mine, "drain too long")
        self._excuse(mine & self._refused, "commit failed")
        self._forget(mine)
        for assignment in mine:
            self._out.pop(assignment, None)

    async def _closed(self, *, abort: bool) -> None:
        self._excuse(self._out if abort else self._refused, "connection lost" if abort else "commit failed")
        await self._close(abort=abort)

    def _excuse(self, assignments: Iterable[Assignment], why: str) -> None:
        """What had its effect and is not committed may come again; of what still runs the loop tells."""
        for assignment in list(assignments):
            for delivery in self._out.pop(assignment, []):
                if delivery._state == DONE and delivery not in delivery._loop.live:
                    self._ledger.write(Lost(self._me, delivery.id, delivery._seq, why))


def watched(store: Any, handler: Any, ledger: Ledger, me: str) -> Any:
    """Return the handler under `@idempotent`, with a guard that tells what the store has noted."""
    from unimsg import idempotent  # noqa: PLC0415 - only a drill with a store needs it

    guarded: Any = idempotent(store)(handler)
    make = guarded.guard

    async def guard(**where: Any) -> Any:
        made = await make(**where)
        claim, complete = made.claim, made.complete
        taken: dict[int, Any] = {}

        async def claimed(deliveries: Sequence[Any], /) -> Any:
            claims = await claim(deliveries)
            taken.update((id(each), delivery) for each, delivery in zip(claims, deliveries, strict=True))
            return claims

        async def completed(claims: Sequence[Any], /) -> Sequence[bool]:
            results: Sequence[bool] = await complete(claims)
            for each, current in zip(claims, results, strict=True):
                _tell(taken[id(each)], current)
            return results

        made.claim, made.complete = claimed, completed
        return made

    def _tell(delivery: Any, current: bool) -> None:
        if current:
            ledger.write(Completed(me, delivery.id, delivery._seq))
        else:
            ledger.write(Lost(me, delivery.id, delivery._seq, "claim lost"))

    guarded.guard = guard
    return guarded
