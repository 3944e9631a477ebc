"""Model: chance finds the order of calls that nobody thought of, against a store of ten lines.

Law: only what a caller can know is compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from unimsg.idempotency.store import End, Grip, Store
from unimsg.testing.conformance.stores.begin import OnStore, Time

STEPS = 150
KEYS = ("a", "b", "c")


@dataclass
class Expected:
    """What one key must look like."""

    token: int = 0
    state: str = "free"
    until: float = 0.0
    ends: float = 0.0
    attempts: int = 0
    redrive: int = 0


class Model(OnStore):
    """Two stores on the same rows, any order of calls, time passing between them."""

    @pytest.mark.parametrize("seed", range(8))
    async def test_any_order_of_calls(self, stores: Callable[[], Store], clock: Time, seed: int) -> None:
        """Case 21; promises 23, 25 and 28: at most one live token, tokens that rise, attempts that are kept."""
        if not self.turned:
            pytest.skip("time is the store's own: the other tests wait for it")
        async with stores() as one, stores() as other:
            walk = Walk(self, random.Random(seed), clock)  # noqa: S311 - seeded, so that it can be repeated
            for _ in range(STEPS):
                await walk.step(walk.chance.choice((one, other)))


class Walk:
    """One walk through the calls."""

    def __init__(self, suite: OnStore, chance: random.Random, clock: Time) -> None:
        self.chance = chance
        self._suite = suite
        self._clock = clock
        self._now = 0.0
        self._rows = {key: Expected() for key in KEYS}
        self._grips: list[Grip] = []

    async def step(self, store: Store) -> None:
        """Make one call, or let time pass."""
        what = self.chance.choice(("ask", "ask", "ask", "renew", "complete", "release", "pass"))
        if what == "pass":
            lock, ttl = self._suite.lock, self._suite.ttl
            seconds = self.chance.choice((0.3 * lock, 0.6 * lock, 1.1 * lock, 1.1 * lock, 1.1 * ttl))
            self._now += seconds
            await self._clock.advance(seconds)
        elif what == "ask":
            await self._ask(store, self.chance.choice(KEYS), self.chance.choice((0, 0, 0, 1, 2)))
        elif self._grips:
            await self._end(store, self.chance.choice(self._grips[-4:]), what)

    async def _ask(self, store: Store, key: str, redrive: int) -> None:
        answer = await self._suite.ask(store, key, redrive=redrive)
        row, suite = self._rows[key], self._suite
        if row.ends <= self._now:
            row.state, row.attempts, row.redrive = "free", 0, redrive
        elif row.state == "running" and row.until <= self._now:
            row.state, row.attempts = "free", row.attempts + 1
        if row.state in ("free", "failed") and redrive > row.redrive:
            row.state, row.redrive, row.attempts = "free", redrive, 0
        if row.state == "free":
            assert (answer.state, answer.attempts) == ("acquired", row.attempts)
            assert answer.token > row.token
            row.state, row.token = "running", answer.token
            row.until, row.ends = self._now + suite.lock, self._now + suite.ttl
            self._grips.append(Grip("scope", key, answer.token))
        else:
            assert answer.state == {"running": "in_progress"}.get(row.state, row.state)

    async def _end(self, store: Store, grip: Grip, what: str) -> None:
        row, suite = self._rows[grip.key], self._suite
        mine = grip.token == row.token and row.ends > self._now
        live = mine and row.state == "running"
        if what == "renew":
            assert await suite.renew(store, grip) == live
            if live:
                row.until = self._now + suite.lock
                row.ends = max(row.ends, row.until)
        elif what == "complete":
            again = mine and row.state == "completed"
            assert await suite.complete(store, grip) == (live or again)
            if live:
                row.state, row.ends = "completed", self._now + suite.ttl
        else:
            end: End = self.chance.choice(("failed", "returned", "dead"))
            again = mine and row.state in ("free", "failed")
            assert await suite.release(store, grip, end) == (live or again)
            if live:
                row.state, row.ends = "failed" if end == "dead" else "free", self._now + suite.ttl
                row.attempts += end != "returned"
