"""Leases: keeps the lease and the claim of every delivery in hand, in batches, from receipt to settlement.

Law: one heartbeat for one receiver. It extends at half of the lease, never what is gone, and tells of every loss.
With an idempotency claim the store is renewed first, then the broker: a claim must not outlive its lease. Where there
is no lease to extend, or the lock is the shorter one, claims are renewed at half of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from unimsg.consuming.delivery import DROPPED, SETTLING, Delivery
from unimsg.errors import Error, LeaseLostError, SettleError
from unimsg.spi import Extends

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
NEVER = float("inf")
BEATS = 6
"""Heartbeats in one lease: extension happens within half a lease of its end, with tries left after a failure."""


class LeaseKeeper:
    """Extends and renews what `alive` yields.

    Args:
        receiver: where leases are extended; None: nowhere.
        lease: how long one is, in seconds; with a receiver.
        alive: the deliveries that are in hand now.
        lock: how long a claim is, in seconds; with `renew`.
        renew: renews idempotency claims and returns those that are another's by now; None: there are no claims.
        lost: called with what is gone.
        translate: makes our error of a library's.
    """

    def __init__(
        self,
        receiver: Extends | None,
        lease: float,
        *,
        alive: Callable[[], Iterable[AnyDelivery]],
        lock: float = NEVER,
        renew: Callable[[Sequence[AnyDelivery]], Awaitable[Sequence[AnyDelivery]]] | None,
        lost: Callable[[Sequence[AnyDelivery], BaseException], None],
        translate: Callable[[Exception], Error | None],
    ) -> None:
        self._receiver = receiver
        self._lease = lease if receiver is not None else NEVER
        self._lock = lock if renew is not None else NEVER
        self._alive = alive
        self._renew = renew
        self._lost = lost
        self._translate = translate
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(min(self._lease, self._lock) / BEATS)
            await self.beat()

    async def beat(self) -> None:
        """Extend what is past half of its lease, renew what is past half of its claim; report what is past its end."""
        now = self._loop.time()
        due: list[AnyDelivery] = []
        over: list[AnyDelivery] = []
        claimed: list[AnyDelivery] = []
        for delivery in self._alive():
            until = delivery._received.lease_until if self._receiver is not None else None
            leased = until is not None and until <= now + self._lease / 2
            if leased:
                (over if until is not None and until <= now else due).append(delivery)
            claim = delivery._claim if delivery.fencing_token else None
            if claim is not None and (leased or claim.until <= now + self._lock / 2):
                claimed.append(delivery)
        if over:
            self._lost(over, LeaseLostError("the lease ended before it could be extended"))
        if claimed and self._renew is not None:
            refused = await self._refused([d for d in claimed if d._state != DROPPED])
            due = [d for d in due if d not in refused]
        if due:
            await self._extend(due)

    async def _refused(self, claimed: list[AnyDelivery]) -> set[AnyDelivery]:
        """Renew claims; those that another has are lost, unless a completion is under way, which finds out itself."""
        if self._renew is None or not claimed:
            return set()
        refused = {d for d in await self._renew(claimed) if d._state < SETTLING}
        if refused:
            self._lost(list(refused), LeaseLostError("another worker holds the idempotency claim"))
        return refused

    async def _extend(self, due: list[AnyDelivery]) -> None:
        receiver, asked_at = self._receiver, self._loop.time()
        if receiver is None:
            return
        try:
            async with asyncio.timeout(self._lease / 3):
                results = await receiver.extend_batch([d._received.token for d in due], self._lease)
        except Exception as raised:  # noqa: BLE001 - a client library may raise anything; the next beat tries again
            problem = raised if isinstance(raised, Error) else self._translate(raised) or raised
            log.warning("extending %d leases failed: %s", len(due), problem)
            return
        gone: list[AnyDelivery] = []
        for delivery, error in zip(due, results, strict=True):
            if error is None:
                delivery._received.lease_until = asked_at + self._lease
            elif isinstance(error, SettleError):
                gone.append(delivery)
        if gone:
            self._lost(gone, LeaseLostError("the service says that the lease is gone"))
