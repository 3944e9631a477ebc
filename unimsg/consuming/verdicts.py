"""Verdicts: what becomes of a delivery after its handler, or instead of it.

Law: applies what the retry policy decides; it waits for nothing but a dead letter's confirmation and the store.
A success passes through `succeeded` only and pays for nothing else here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from unimsg.consuming import dead_letter
from unimsg.consuming.delivery import DONE, DROPPED, HELD, RUNNING, SETTLING, Delivery, Trouble, Verb
from unimsg.errors import (
    AssignmentLostError,
    DeadLetter,
    DecodeError,
    Defer,
    Fail,
    LeaseLostError,
    Outcome,
    SettleError,
)
from unimsg.headers import dedup_id
from unimsg.policies.retry import RetryPolicy

if TYPE_CHECKING:
    from unimsg.consuming.loop import ConsumingLoop

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
REWRITE = 5.0
"""Seconds after which a dead letter that could not be written is tried again."""
STUCK = "no dead letter destination"
"""What health names where a message is exhausted and there is none."""
REMEMBERED = 10_000
"""Messages whose past this process remembers where nobody else does."""


class Past(NamedTuple):
    """What is known of a message that went back, for when it comes again."""

    executions: int
    first_failed: float | None


class Verdicts:
    """Applies verdicts for one consuming loop."""

    __slots__ = ("_home", "_policy", "_stuck", "_target", "past")

    def __init__(self, home: ConsumingLoop, policy: RetryPolicy, target: str | None) -> None:
        self._home = home
        self._policy = policy
        self._target = target
        self.past: dict[str, Past] = {}
        self._stuck: set[AnyDelivery] = set()
        """Exhausted, with nowhere to go."""

    def look(self) -> None:
        """Nothing that is exhausted is in hand any more: health need not be red for it."""
        if self._stuck:
            self._stuck &= self._home.live
            if not self._stuck:
                self._home.health.green(STUCK)

    def recall(self, delivery: AnyDelivery) -> None:
        """It may have been here before: what was executed then still counts (promises 10 and 14)."""
        first = delivery._received.first_failed
        past = self.past.get(dedup_id(delivery.message) or "") if self.past else None
        if past is not None:
            delivery.attempt = max(delivery.attempt, past.executions + 1)
            first = first or past.first_failed
        if first is not None:
            delivery._trouble = Trouble(first)

    def remember(self, deliveries: Iterable[AnyDelivery]) -> None:
        """These leave without an end, and without a word to the broker of what was executed since they came."""
        for delivery in deliveries:
            executions = delivery.attempt - 1
            if executions > (delivery._received.attempts or 0):
                self._remember(delivery, executions)

    def _remember(self, delivery: AnyDelivery, executions: int) -> None:
        name, trouble = dedup_id(delivery.message), delivery._trouble
        if name is not None:
            if len(self.past) >= REMEMBERED:
                del self.past[next(iter(self.past))]
            self.past[name] = Past(executions, trouble.first if trouble is not None else None)

    def _forget(self, delivery: AnyDelivery) -> None:
        if self.past:
            self.past.pop(dedup_id(delivery.message) or "", None)

    # ------------------------------------------------------------ success

    def succeeded(self, delivery: AnyDelivery) -> None:
        """Effect done: complete the claim if there is one, then ack."""
        home = self._home
        if delivery._state >= SETTLING:
            if home.claims is not None:
                home.claims.outlived(delivery, None)
            return
        if delivery.fencing_token and home.claims is not None:
            home.claims.complete(delivery)
        else:
            self.acked(delivery)

    def acked(self, delivery: AnyDelivery) -> None:
        """The effect is done, and marked so where that was asked for: ack."""
        if self.past and delivery.attempt > 1:
            self._forget(delivery)
        link = delivery._link
        if link is not None:
            link.settler.ack(delivery)

    def skipped(self, delivery: AnyDelivery) -> None:
        """A duplicate of what is done: acked and counted, the handler does not run."""
        self._home.counters.duplicates += 1
        self.acked(delivery)

    # ------------------------------------------------------------ failure

    async def failed(self, delivery: AnyDelivery, error: BaseException) -> None:
        """The handler raised: retry, defer or dead-letter, as the policy says."""
        home = self._home
        if delivery._state >= SETTLING:
            if home.claims is not None:
                home.claims.outlived(delivery, "failed")
            return
        verdict = self._policy.verdict(error, delivery.attempt)
        if verdict.action == "defer":
            await self._release_claim(delivery, "returned")
            self.defer(delivery, verdict.delay)
            return
        self._note(delivery, error, verdict.reason)
        if not isinstance(error, (DeadLetter, DecodeError)) and verdict.action == "retry":
            home.brakes.failed(self._acking)
        if verdict.action == "dead_letter":
            await self.bury(delivery, verdict.reason)
        elif home.brakes.may_retry():
            await self._release_claim(delivery, "failed")
            self._retry(delivery, verdict.delay)
        else:
            await self._release_claim(delivery, "returned")
            self.defer(delivery, verdict.delay)

    def _acking(self) -> int:
        """Executions that ended well, and whose acks are not counted yet."""
        return sum(
            d._state in (SETTLING, DONE) and not (d._trouble and d._trouble.error_type)
            for d in self._home.live
        )

    def _note(self, delivery: AnyDelivery, error: BaseException, reason: str) -> None:
        now = time.time()
        trouble = delivery._trouble
        if trouble is None:
            delivery._trouble = trouble = Trouble(now)
        trouble.last = now
        trouble.error_type = type(error).__name__
        trouble.error = str(error) or reason
        if isinstance(error, Outcome):
            log.info("%s failed attempt %d: %s", self._home.describe(delivery), delivery.attempt, reason)
        else:
            log.error("%s failed attempt %d", self._home.describe(delivery), delivery.attempt, exc_info=error)

    def _retry(self, delivery: AnyDelivery, delay: float) -> None:
        if delivery._state >= SETTLING:  # lost while its claim was released
            return
        limits = self._home.limits
        if (
            delivery._lane is not None
            or limits.retry == "core"
            or not limits.min_delay <= delay <= limits.max_delay
            or self._home.until_idle
        ):
            delivery.attempt += 1
            self._home.counters.failed += 1
            self._home.counters.received += 1
            self._home.hold(delivery, delay)
            return
        if delivery._received.attempts is None:
            self._remember(delivery, delivery.attempt)
        if delivery._link is not None:
            delivery._link.settler.settle(delivery, "retry", "failed", delay)

    def defer(self, delivery: AnyDelivery, delay: float, *, hold: bool = False) -> None:
        """Put it off without counting: at the broker where that is free, else (or to `hold` it) under its lease."""
        if delivery._state >= SETTLING:
            return
        limits = self._home.limits
        hold = hold or self._home.until_idle  # what waits at the broker would be taken for nothing more
        if hold or delivery._lane is not None or limits.defer == "core" or delay > limits.max_delay:
            self._home.counters.deferred += 1
            self._home.counters.received += 1
            self._home.hold(delivery, delay)
        elif delivery._link is not None:
            delivery._link.settler.settle(delivery, "release", "deferred", delay)

    # ------------------------------------------------------------ the end of the road

    async def bury(self, delivery: AnyDelivery, reason: str) -> None:
        """Dead-letter it: confirmed first, then the claim is closed, then the original is acked.

        Without a destination for that, or while it cannot be written, the original stays and is retried for ever at
        the longest delay; `health` turns red. Nothing is dropped.
        """
        if await self._written(delivery, reason):
            await self._buried(delivery, reason)
            return
        doomed = delivery._trouble is not None and bool(delivery._trouble.doomed)
        await self._release_claim(delivery, "returned" if doomed else "failed")
        self._wait_for_ever(delivery, min(self._policy.longest, REWRITE) if doomed else self._policy.longest)

    @staticmethod
    def condemn(delivery: AnyDelivery, reason: str) -> None:
        """It must not run any more: whoever takes it buries it."""
        if delivery._trouble is None:
            delivery._trouble = Trouble(time.time())
        delivery._trouble.doomed = reason

    async def _written(self, delivery: AnyDelivery, reason: str) -> bool:
        """Publish the dead letter; False: it stays, and health says why."""
        home = self._home
        if delivery._trouble is None:
            delivery._trouble = Trouble(time.time())
        if self._target is None:
            self._stuck.add(delivery)
            home.health.redden(STUCK, f"a message is exhausted ({reason}) and there is no dead_letter=")
            return False
        delivery._trouble.doomed = reason
        try:
            letter = dead_letter.compose(delivery, reason, backend=home.backend, handler=home.handler_name)
            await home.services.dead_letter(self._target, letter)
        except asyncio.CancelledError:
            await asyncio.shield(self._release_claim(delivery, "returned"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the original stays
            log.warning("%s could not be dead-lettered: %s", home.describe(delivery), error)
            home.health.redden("dead letter", f"dead letters cannot be written: {error}")
            home.brakes.trip()
            return False
        home.health.green("dead letter")
        return True

    async def _buried(self, delivery: AnyDelivery, reason: str) -> None:
        log.warning("%s was dead-lettered to %r: %s", self._home.describe(delivery), self._target, reason)
        await self._release_claim(delivery, "dead")
        if delivery._state < SETTLING and delivery._link is not None:
            self._forget(delivery)
            delivery._link.settler.settle(delivery, "ack", "dead_lettered")

    def _wait_for_ever(self, delivery: AnyDelivery, delay: float) -> None:
        if delivery._state >= SETTLING:
            return
        delivery.attempt += 1
        self._home.counters.failed += 1
        self._home.counters.received += 1
        self._home.hold(delivery, delay)

    async def _release_claim(self, delivery: AnyDelivery, outcome: Any) -> None:  # noqa: ANN401 - guard's Literal
        claims = self._home.claims
        if claims is not None and delivery.fencing_token:
            await claims.release(delivery, outcome)

    # ------------------------------------------------------------ stop, and verbs called by hand

    async def give_back(self, delivery: AnyDelivery) -> None:
        """Cancelled by stop, or by a loss: nothing is counted, it comes again."""
        if delivery._state >= SETTLING:
            if self._home.claims is not None:
                self._home.claims.outlived(delivery, "returned")
            return
        await asyncio.shield(self._release_claim(delivery, "returned"))
        self._home.release(delivery)

    async def apply(self, delivery: AnyDelivery) -> None:
        """Apply the verb that a handler called before it returned."""
        if delivery._verb is None or delivery._state in (DONE, DROPPED, HELD):
            return
        verb, value = delivery._verb
        delivery._verb = None
        if verb == "ack":
            self.succeeded(delivery)
        elif verb == "fail":
            error, delay = value
            if delay is not None:
                await self.failed(delivery, Fail(str(error or "failed by the handler"), delay=delay))
            else:
                await self.failed(delivery, error or Fail("failed by the handler"))
        elif verb == "defer":
            await self.failed(delivery, Defer(value))
        elif verb == "dead_letter":
            await self.failed(delivery, DeadLetter(value))
        elif verb == "give_back":
            await self.give_back(delivery)

    async def by_hand(self, delivery: AnyDelivery, verb: Verb, value: Any) -> None:  # noqa: ANN401 - by verb
        """A verb called on a delivery: checked, and applied now, or on the handler's return where that is cheaper.

        In a handler `fail` and `defer` wait for its return, since the next of the lane must not start before.
        """
        home = self._home
        if delivery._state == DROPPED:
            assignment = delivery._received.assignment
            if assignment is not None and not assignment.live:
                raise AssignmentLostError(
                    "the assignment is gone: it will come again", destination=home.destination
                )
            raise LeaseLostError("the lease is gone: it will come again", destination=home.destination)
        if delivery._verb is not None or delivery._state != RUNNING:
            if delivery._verb is not None and delivery._verb[0] == verb:
                return
            given = delivery._verb[0] if delivery._verb else "a verdict"
            raise SettleError(
                f"{verb} after {given}: a delivery is settled once", destination=home.destination
            )
        delivery._verb = (verb, value)
        if delivery._slot is not None:
            await self._within_handler(delivery, verb, value)
            return
        await self.apply(delivery)
        if delivery._state != HELD:
            delivery._verb = (verb, value)
            home.lanes.done(delivery)
            home.wake()

    async def _within_handler(self, delivery: AnyDelivery, verb: Verb, value: Any) -> None:  # noqa: ANN401 - by verb
        if verb == "ack":
            self.succeeded(delivery)
        elif verb == "dead_letter":
            self._note(delivery, DeadLetter(value), value)
            if await self._written(delivery, value):
                await self._buried(delivery, value)
