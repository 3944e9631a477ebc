"""Guard: the policy of one handler on one destination and group, for the loop that consumes it.

Law: turns deliveries into claims on a store, a batch in a call; the loop decides what becomes of them. A duplicate of
what runs in this very process is asked about again soon; of what runs elsewhere, when that claim could end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from unimsg.consuming.delivery import Delivery
from unimsg.consuming.guard import Claim, Release
from unimsg.errors import Error, IdempotencyError, KeyReuseError, StoreUnavailableError
from unimsg.idempotency.policy import Policy
from unimsg.idempotency.store import Answer, Ask, Grip

log = logging.getLogger("unimsg.idempotency")

SOONEST, LATEST = 0.01, 5.0
"""Seconds until a duplicate of what runs here is looked at again: half of the time that it has been running."""
AGAIN = 1.0
"""Seconds until a claim is asked for again that a store could not answer, while it answered others."""


class _Here(Struct):
    """A claim that this process has."""

    token: int
    since: float
    until: float


class StoreGuard:
    """Claims for one consuming loop."""

    def __init__(self, policy: Policy, scope: str, lock: float) -> None:
        self.lock = lock
        self._policy = policy
        self._scope = scope
        self._time = asyncio.get_running_loop().time
        self._here: dict[str, _Here] = {}
        self._crowd = 1000

    async def claim(self, deliveries: Sequence[Delivery[Any]], /) -> Sequence[Claim]:
        """Ask whether each may run."""
        policy, claims = self._policy, list[Claim | Ask]()
        for delivery in deliveries:
            claims.append(self._asked(delivery))
        asks = [claim for claim in claims if isinstance(claim, Ask)]
        asked_at = self._time()
        try:
            answers = await policy.store.claim(asks, lock=self.lock, ttl=policy.ttl) if asks else ()
        except StoreUnavailableError as error:
            if policy.on_store_error == "defer":
                raise
            log.warning("%s: %d messages run unclaimed: %s", self._scope, len(asks), error)
            return [claim if isinstance(claim, Claim) else Claim("run") for claim in claims]
        answered = iter(zip(asks, answers, strict=True))
        result = [
            claim if isinstance(claim, Claim) else self._answered(*next(answered), asked_at)
            for claim in claims
        ]
        if self._time() - asked_at >= self.lock:
            return await self._too_late(result)
        return result

    def _asked(self, delivery: Delivery[Any]) -> Claim | Ask:
        try:
            return self._policy.ask(self._scope, delivery, (delivery,), {}) or Claim("run")
        except IdempotencyError as error:
            return Claim("reject", error=error)

    def _answered(self, ask: Ask, answer: Answer | StoreUnavailableError, asked_at: float) -> Claim:
        if isinstance(answer, StoreUnavailableError):
            if self._policy.on_store_error == "run":
                return Claim("run")
            return Claim("wait", delay=AGAIN)
        if answer.state == "acquired":
            if len(self._here) >= self._crowd:
                self._forget_lost()
            self._here[ask.key] = _Here(answer.token, asked_at, asked_at + self.lock)
            row = Grip(ask.scope, ask.key, answer.token)
            return Claim("run", token=answer.token, attempts=answer.attempts, row=row)
        if answer.state == "in_progress":
            return Claim("wait", delay=self._wait(ask.key, answer))
        if answer.state == "reused":
            return Claim("reject", error=reused(ask))
        return Claim("skip")

    def _wait(self, key: str, answer: Answer) -> float:
        here, now = self._here.get(key), self._time()
        if here is None or here.token != answer.token or here.until <= now:
            return answer.remaining
        return min(max(SOONEST, (now - here.since) / 2), LATEST, answer.remaining)

    def _forget_lost(self) -> None:
        """What was lost is never given back: it is forgotten when its claim has surely ended."""
        now = self._time()
        self._here = {key: here for key, here in self._here.items() if here.until > now}
        self._crowd = max(1000, 2 * len(self._here))

    async def _too_late(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """The store took longer to answer than a claim lasts: others may have them by now."""
        mine = [claim for claim in claims if claim.row is not None]
        log.warning("%s: the store took longer than a claim lasts (%g s)", self._scope, self.lock)
        if mine:
            outcomes: list[Release] = ["returned"] * len(mine)
            await self.release(mine, outcomes)
        return [Claim("wait") if claim.row is not None else claim for claim in claims]

    async def renew(self, claims: Sequence[Claim], /) -> Sequence[bool]:
        """Prolong each; see `unimsg.consuming.guard.Guard`."""
        asked_at = self._time()
        results = await self._policy.store.renew([claim.row for claim in claims], lock=self.lock)
        for claim, current in zip(claims, results, strict=True):
            here = self._here.get(claim.row.key)
            if current and here is not None and here.token == claim.token:
                here.until = asked_at + self.lock
        return results

    async def complete(self, claims: Sequence[Claim], /) -> Sequence[bool]:
        """Mark each as done; see `unimsg.consuming.guard.Guard`."""
        grips = [claim.row for claim in claims]
        results = await self._policy.store.complete(grips, [None] * len(grips), ttl=self._policy.ttl)
        self._left(grips)
        return results

    async def release(self, claims: Sequence[Claim], outcomes: Sequence[Release], /) -> Sequence[bool]:
        """Give each back; see `unimsg.consuming.guard.Guard`."""
        grips = [claim.row for claim in claims]
        results = await self._policy.store.release(grips, outcomes, ttl=self._policy.ttl)
        self._left(grips)
        return results

    def _left(self, grips: Sequence[Grip]) -> None:
        for grip in grips:
            here = self._here.get(grip.key)
            if here is not None and here.token == grip.token:
                del self._here[grip.key]

    async def aclose(self) -> None:
        """Let go of the store."""
        await self._policy.store.__aexit__(None, None, None)


def reused(ask: Ask) -> Error:
    """Return the error of a key that came with another payload."""
    return KeyReuseError(
        f"key {ask.key!r} of {ask.scope} was used with another payload: what was done stays, this is not run"
    )
