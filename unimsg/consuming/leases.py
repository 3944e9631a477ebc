"""Leases: keeps the lease of every delivery in hand, in batches, from receipt to settlement.

Law: one heartbeat for one receiver. It extends at half of the lease, never what is gone, and tells of every loss.
With an idempotency claim the store is renewed first, then the broker: a claim must not outlive its lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from unimsg.capabilities import Lease
from unimsg.consuming.delivery import Delivery
from unimsg.errors import Error, LeaseLostError, SettleError
from unimsg.spi import Extends

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
BEATS = 6
"""Heartbeats in one lease: extension happens within half a lease of its end, with tries left after a failure."""


class LeaseKeeper:
    """Extends what `alive` yields.

    Args:
        receiver: where leases are extended.
        lease: how long one is.
        alive: the deliveries that are in hand now.
        renew: renews idempotency claims of those that have one; returns those that lost theirs.
        lost: called with what is gone.
    """

    def __init__(
        self,
        receiver: Extends,
        lease: Lease,
        *,
        alive: Callable[[], Iterable[AnyDelivery]],
        renew: Callable[[Sequence[AnyDelivery]], Awaitable[Sequence[AnyDelivery]]] | None,
        lost: Callable[[Sequence[AnyDelivery], BaseException], None],
        translate: Callable[[Exception], Error | None],
    ) -> None:
        self._receiver = receiver
        self._lease = lease
        self._alive = alive
        self._renew = renew
        self._lost = lost
        self._translate = translate
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._lease.seconds / BEATS)
            await self.beat()

    async def beat(self) -> None:
        """Extend what is past half of its lease; report what is past its end."""
        now = self._loop.time()
        half = now + self._lease.seconds / 2
        due: list[AnyDelivery] = []
        over: list[AnyDelivery] = []
        for delivery in self._alive():
            until = delivery._received.lease_until
            if until is not None and until <= half:
                (over if until <= now else due).append(delivery)
        if over:
            self._lost(over, LeaseLostError("the lease ended before it could be extended"))
        if due and self._renew is not None:
            refused = set(await self._renew([d for d in due if d.fencing_token]))
            if refused:
                self._lost(list(refused), LeaseLostError("another worker holds the idempotency claim"))
                due = [d for d in due if d not in refused]
        if due:
            await self._extend(due)

    async def _extend(self, due: list[AnyDelivery]) -> None:
        asked_at = self._loop.time()
        try:
            async with asyncio.timeout(self._lease.seconds / 3):
                results = await self._receiver.extend_batch(
                    [d._received.token for d in due], self._lease.seconds
                )
        except Exception as raised:  # noqa: BLE001 - a client library may raise anything; the next beat tries again
            problem = raised if isinstance(raised, Error) else self._translate(raised) or raised
            log.warning("extending %d leases failed: %s", len(due), problem)
            return
        gone: list[AnyDelivery] = []
        for delivery, error in zip(due, results, strict=True):
            if error is None:
                delivery._received.lease_until = asked_at + self._lease.seconds
            elif isinstance(error, SettleError):
                gone.append(delivery)
        if gone:
            self._lost(gone, LeaseLostError("the service says that the lease is gone"))
