"""Witness: writes down when a message was completed and when it was lost, as seen from inside a consumer.

Law: only looks. A completion is written after the service has confirmed the ack, or the store the effect: never
before, so that a kill between the two is not blamed on the backend, and a repetition after it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.chaos.ledger import Completed, Ledger, Lost
from unimsg.consuming.link import Link
from unimsg.consuming.loop import ConsumingLoop
from unimsg.spi import Assignment, Settlement


def watch_loops(ledger: Ledger, me: str) -> None:
    """Watch every consuming loop of this process."""
    finished, lost, opened = ConsumingLoop.finished, ConsumingLoop.lost, ConsumingLoop.open_link

    def on_finished(loop: ConsumingLoop, deliveries: Sequence[Any], outcome: str, /) -> None:
        link = loop.link
        if outcome != "released" and not (link is not None and link.settler.cumulative):
            for delivery in deliveries:
                ledger.write(Completed(me, delivery.id))
        finished(loop, deliveries, outcome)

    def on_lost(loop: ConsumingLoop, deliveries: Sequence[Any], error: BaseException, /) -> None:
        before = set(loop.live)
        lost(loop, deliveries, error)
        for delivery in before - loop.live:
            ledger.write(Lost(me, delivery.id or ""))

    async def on_open(self: ConsumingLoop) -> Link:
        link = await opened(self)
        if link.settler.cumulative:
            _watch_commits(link, ledger, me)
        return link

    ConsumingLoop.finished = on_finished  # type: ignore[method-assign]  # the one door to what becomes of a message
    ConsumingLoop.lost = on_lost  # type: ignore[method-assign]  # as above
    ConsumingLoop.open_link = on_open  # type: ignore[method-assign]  # as above


def _watch_commits(link: Any, ledger: Ledger, me: str) -> None:
    """On a log: what a commit covers is completed when the commit is confirmed, not when the handler returned."""
    receive, settle = link.receiver.receive_batch, link.receiver.settle_batch
    out: dict[Assignment, list[tuple[Any, str]]] = {}

    async def receive_batch(most: int, wait: float, /) -> Any:
        batch = await receive(most, wait)
        for received in batch:
            out.setdefault(received.assignment, []).append((received.token, received.message.id))
        return batch

    async def settle_batch(settlements: Sequence[Settlement], /) -> Any:
        results = await settle(settlements)
        for settlement, error in zip(settlements, results, strict=True):
            if error is None and settlement.assignment is not None:
                _commit(out.get(settlement.assignment, []), settlement.token, ledger, me)
        return results

    forget = link._forget

    def forgotten(mine: set[Assignment]) -> None:
        """What had its effect and was not committed when its share was taken away is lost as well: it comes again."""
        live = {delivery.id for delivery in link._home.live}
        forget(mine)
        for assignment in mine:
            for _, message in out.pop(assignment, []):
                if message not in live:
                    ledger.write(Lost(me, message))

    link.receiver.receive_batch, link.receiver.settle_batch = receive_batch, settle_batch
    link._forget = forgotten


def _commit(before: list[tuple[Any, str]], token: Any, ledger: Ledger, me: str) -> None:
    count = next((place for place, (found, _) in enumerate(before, 1) if found == token), 0)
    for _, message in before[:count]:
        ledger.write(Completed(me, message))
    del before[:count]


def watched(store: Any, handler: Any, ledger: Ledger, me: str) -> Any:
    """Return the handler under `@idempotent`, with a guard that tells what the store has noted."""
    from unimsg import idempotent  # noqa: PLC0415 - only a drill with a store needs it

    guarded: Any = idempotent(store)(handler)
    make = guarded.guard

    async def guard(**where: Any) -> Any:
        made = await make(**where)
        complete = made.complete

        async def completed(claims: Sequence[Any], /) -> Sequence[bool]:
            results: Sequence[bool] = await complete(claims)
            for claim, current in zip(claims, results, strict=True):
                ledger.write((Completed if current else Lost)(me, claim.row.key))
            return results

        made.complete = completed
        return made

    guarded.guard = guard
    return guarded
