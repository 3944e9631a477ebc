"""Brakes: what slows a loop down when things go wrong: the retry budget, the breaker, the watch over the codec.

Law: decides and tells; no I/O. A success costs two calls for a whole batch of acks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from unimsg.consuming.health import LoopHealth
from unimsg.policies.breaker import Breaker
from unimsg.policies.budget import Budget

WINDOW = 100
"""Deliveries in which more than half undecodable bodies mean that the codec is wrong, not the messages."""


class Brakes:
    """The brakes of one consuming loop.

    Args:
        health: where it is told that a brake is on.
        resume: called when intake may go on.
    """

    __slots__ = ("_breaker", "_budget", "_health", "_loop", "_resume", "_seen", "_undecodable")

    def __init__(self, health: LoopHealth, resume: Callable[[], None]) -> None:
        self._health = health
        self._resume = resume
        self._loop = asyncio.get_running_loop()
        self._budget = Budget()
        self._breaker = Breaker()
        self._seen = 0
        self._undecodable = 0

    @property
    def open(self) -> bool:
        """Whether anything new may be taken in now."""
        return "breaker" not in self._health.reasons

    def succeeded(self, count: int) -> None:
        """So many executions were acked."""
        now = self._loop.time()
        self._budget.success(count)
        self._breaker.record(ok=True, now=now, count=count)
        self._seen += count

    def failed(self, acking: Callable[[], int]) -> None:
        """One execution failed in a way that a retry may cure.

        Args:
            acking: counts those that ended well and whose acks are under way: a failure is known at once, a success
                when it is acked, so a burst would look as if most of it had failed.
        """
        self._breaker.record(ok=False, now=self._loop.time(), uncounted=acking)
        self._look()

    def may_retry(self) -> bool:
        """Take one retry from the budget."""
        return self._budget.spend(self._loop.time())

    def trip(self) -> None:
        """Take in nothing for a while."""
        self._breaker.trip(self._loop.time())
        self._look()

    def undecodable(self) -> None:
        """One more body did not fit: more than half of the last hundred stops the intake for a while."""
        self._undecodable += 1
        if self._seen + self._undecodable < WINDOW:
            return
        if self._undecodable > WINDOW // 2:
            self._health.redden(
                "decode",
                "more than half of the last 100 messages cannot be decoded: is this the right codec?",
            )
            self.trip()
        else:
            self._health.green("decode")
        self._seen = self._undecodable = 0

    def _look(self) -> None:
        if not self.open or self._breaker.allows(self._loop.time()):
            return
        self._health.redden("breaker", "too many failures: intake is paused, no attempt is burned by waiting")
        self._loop.call_later(self._breaker.open_for, self._half_open)

    def _half_open(self) -> None:
        self._health.green("breaker")
        self._breaker.allows(self._loop.time())  # half-open: the next result decides
        self._resume()
