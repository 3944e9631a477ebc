"""Claims: the idempotency policy of a handler, asked in batches, between the lanes and the workers.

Law: knows a `Guard` and the loop; no store. Claims are made for what is about to run, not for the prefetch buffer:
one task completes what is done, then claims what is next, each in one call, so that a duplicate which follows its
original closely finds it completed. Bodies are decoded here, since a key is usually in one; workers take them as they
are.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from unimsg.consuming.delivery import DROPPED, HELD, SETTLING, WAITING, Delivery
from unimsg.consuming.guard import Claim, Guard, Release
from unimsg.errors import DecodeError, IdempotencyError, LeaseLostError, StoreUnavailableError
from unimsg.policies.backoff import Backoff

if TYPE_CHECKING:
    from unimsg.consuming.loop import ConsumingLoop

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
MOST = 100
"""Claims in one call."""
AHEAD = 0.1
"""Seconds of work to have claimed before workers ask for it."""
GATHER = 0.005
"""Seconds that completions gather at most."""
PATIENCE = 30.0
"""Seconds at most, and half of the lock, to retry a completion that the store cannot take."""


class Claims:
    """What workers take from when the handler is idempotent."""

    def __init__(self, home: ConsumingLoop, guard: Guard) -> None:
        self._home = home
        self._guard = guard
        self._claimed: deque[AnyDelivery] = deque()
        self._claiming: list[AnyDelivery] = []
        self._done: list[AnyDelivery] = []
        self._completing = False
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._aside: set[asyncio.Task[None]] = set()
        retry, target = home.settings.retry, home.settings.dead_letter
        self._most = retry.max_deliveries if target and retry.max_deliveries else math.inf
        self._decode = home.decode
        self.store_down = False
        self._task = asyncio.create_task(self._run(), name=f"unimsg.claims[{home.destination}]")

    # ------------------------------------------------------------ what workers see

    @property
    def lock(self) -> float:
        """How long a claim lasts, in seconds."""
        return self._guard.lock

    @property
    def ready(self) -> int:
        """How many workers could start now."""
        return len(self._claimed)

    def take(self) -> AnyDelivery | None:
        """Return the next claimed delivery, or None; asks for more claims when few are left."""
        delivery = self._claimed.popleft() if self._claimed else None
        if not self._wanted.is_set() and len(self._claimed) <= self._ahead() // 2:
            self._wanted.set()
        return delivery

    def _ahead(self) -> int:
        home = self._home
        return min(MOST, home.settings.concurrency, 1 + int(home.prefetch.rate * AHEAD))

    def wake(self) -> None:
        """Something is ready in the lanes."""
        self._wanted.set()

    def kick(self) -> None:
        """Complete and claim now."""
        if self._done or self._home.lanes.ready:
            self._wanted.set()

    def complete(self, delivery: AnyDelivery) -> None:
        """The effect is done: mark it so in the store, then ack."""
        delivery._state = SETTLING
        self._done.append(delivery)
        if self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._wanted.set)

    async def flush(self) -> None:
        """Return when every completion is written and every claim under way has been answered."""
        while self._done or self._completing or self._aside:
            self._wanted.set()
            await self._home.change()

    def pending(self) -> bool:
        """Whether anything is claimed, or being claimed, that has not started."""
        return bool(self._claimed or self._claiming)

    def remove(self, gone: Callable[[AnyDelivery], bool]) -> list[AnyDelivery]:
        """Take back what is claimed and has not started, and return it; its claims are given back."""
        removed = [delivery for delivery in self._claimed if gone(delivery)]
        if removed:
            self._claimed = deque(d for d in self._claimed if not gone(d))
            self._later(self._give_back([self._taken(delivery) for delivery in removed]))
            for delivery in removed:
                self._home.lanes.done(delivery)
        return removed

    @staticmethod
    def _taken(delivery: AnyDelivery) -> Claim:
        """Take its claim from a delivery, so that nobody completes it meanwhile."""
        delivery.fencing_token = 0
        return delivery._claim

    async def aclose(self) -> None:
        """End the task; claims still held run out by themselves."""
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, *self._aside, return_exceptions=True)
        await self._guard.aclose()

    # ------------------------------------------------------------ the task

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            await self._complete_gathered()
            await self._claim_heads()
            if self._home.watchers:
                self._home.moved()

    async def _claim_heads(self) -> None:
        home = self._home
        while home.lanes.ready and not home.paused:
            idle = home.workers.idle if home.workers is not None else 1
            room = idle + self._ahead() - len(self._claimed)
            heads = self._heads(min(room, MOST))
            if not heads:
                return
            asked_at = self._loop.time()
            try:
                claims = await self._guard.claim(heads)
            except Exception as error:  # noqa: BLE001 - a store may raise anything: nothing was claimed
                await self._wait_for_store(heads, error)
                continue
            finally:
                self._claiming = []
            for delivery, claim in zip(heads, claims, strict=True):
                self._sort(delivery, claim, asked_at)
            if home.workers is not None:
                home.workers.wake(len(self._claimed))
            if self._done:
                await self._complete_gathered()

    def _heads(self, most: int) -> list[AnyDelivery]:
        heads = self._claiming = []
        while len(heads) < most:
            delivery = self._home.lanes.take()
            if delivery is None:
                break
            try:
                delivery.body = self._decode(delivery._received.message)
            except DecodeError as error:  # no row for what nobody can read
                self._home.undecodable()
                self._later(self._reject(delivery, error))
            else:
                heads.append(delivery)
        return heads

    def _sort(self, delivery: AnyDelivery, claim: Claim, asked_at: float) -> None:
        home = self._home
        claim.until = asked_at + self._guard.lock
        delivery._claim = claim
        delivery.fencing_token = claim.token if claim.action == "run" else 0
        if delivery._state == DROPPED:  # lost while it was claimed
            home.lanes.done(delivery)
            if delivery.fencing_token:
                self._later(self._give_back([self._taken(delivery)]))
        elif claim.action == "run":
            delivery.attempt = max(delivery.attempt, claim.attempts + 1)
            if claim.attempts >= self._most:
                home.verdicts.condemn(delivery, f"begun {claim.attempts} times and never finished")
            self._claimed.append(delivery)
        elif claim.action == "skip":
            home.verdicts.skipped(delivery)
            home.lanes.done(delivery)
        elif claim.action == "wait":
            home.verdicts.defer(
                delivery, claim.delay, hold=home.until_idle
            )  # it is not idle while that waits
            if delivery._state != HELD:
                home.lanes.done(delivery)
        else:
            self._later(self._reject(delivery, claim.error or IdempotencyError("the claim was rejected")))

    async def _reject(self, delivery: AnyDelivery, error: BaseException) -> None:
        await self._home.verdicts.failed(delivery, error)
        if delivery._state != HELD:
            self._home.lanes.done(delivery)
        self._home.wake()

    async def _wait_for_store(self, heads: list[AnyDelivery], error: Exception) -> None:
        """Nothing was claimed: everything stands where it stood, intake pauses, one probe at a time looks again."""
        home = self._home
        for delivery in reversed(heads):
            if delivery._state == WAITING:
                home.lanes.untake(delivery)
            else:
                home.lanes.done(delivery)
        self._claiming = []
        if not isinstance(error, StoreUnavailableError):
            log.error("%r: claiming failed", home.destination, exc_info=error)
        self.store_down = True
        home.health.redden("store", f"the idempotency store cannot be reached: {error}")
        backoff = Backoff(initial=0.1, max=5.0)
        while self.store_down:
            await asyncio.sleep(backoff.next())
            probe = self._heads(1)
            if not probe:
                break
            asked_at = self._loop.time()
            try:
                claims = await self._guard.claim(probe)
            except Exception:  # noqa: BLE001 - still down
                (home.lanes.untake if probe[0]._state == WAITING else home.lanes.done)(probe[0])
                continue
            finally:
                self._claiming = []
            self._sort(probe[0], claims[0], asked_at)
            if home.workers is not None:
                home.workers.wake(1)
            break
        self.store_down = False
        home.health.green("store")
        home.reopen_intake()

    # ------------------------------------------------------------ completion and release

    async def _complete_gathered(self) -> None:
        while self._done:
            batch, self._done = self._done, []
            batch = [delivery for delivery in batch if delivery._state == SETTLING]
            if not batch:
                continue
            self._completing = True
            try:
                results = await self._complete(batch)
            finally:
                self._completing = False
            refused = []
            for delivery, current in zip(batch, results, strict=True):
                if delivery._state == DROPPED:
                    continue
                if current:
                    self._home.verdicts.acked(delivery)
                else:
                    refused.append(delivery)
            if refused:
                self._home.lost(refused, LeaseLostError("another worker holds the idempotency claim"))

    async def _complete(self, batch: list[AnyDelivery]) -> Sequence[bool]:
        """Complete, for as long as the claim surely lasts; then give up: handing back would repeat the effect."""
        until = self._loop.time() + min(self._guard.lock / 2, PATIENCE)
        backoff = Backoff(initial=0.05, max=2.0)
        while True:
            try:
                return await self._guard.complete([delivery._claim for delivery in batch])
            except Exception as error:
                pause = backoff.next()
                if self._loop.time() + pause >= until:
                    log.error(  # noqa: TRY400 - with its traceback, in a sentence
                        "%r: %d completed messages could not be marked as done; they are acked",
                        self._home.destination,
                        len(batch),
                        exc_info=error,
                    )
                    self._home.counters.completion_failed += len(batch)
                    return [True] * len(batch)
                await asyncio.sleep(pause)

    async def release(self, delivery: AnyDelivery, outcome: Release) -> None:
        """Give the claim of one delivery back; a refusal is lease loss."""
        try:
            (current,) = await self._guard.release([self._taken(delivery)], [outcome])
        except Exception as error:  # noqa: BLE001 - the lock runs out by itself
            log.warning("%r: a claim could not be released: %s", self._home.destination, error)
            current = True
        if not current and delivery._state < SETTLING:
            self._home.lost([delivery], LeaseLostError("another worker holds the idempotency claim"))

    def outlived(self, delivery: AnyDelivery, outcome: Release | None) -> None:
        """A handler ended after its delivery was lost: the claim, if it is still ours, hears of it all the same.

        What was done is completed, so that whoever gets the message next finds a duplicate; else the claim is given
        back, so that nobody waits for it to run out.
        """
        if delivery._state == DROPPED and delivery.fencing_token:
            claim = self._taken(delivery)
            self._later(self._give_back([claim], outcome) if outcome else self._note([claim]))

    async def _note(self, claims: list[Claim]) -> None:
        try:
            await self._guard.complete(claims)
        except Exception as error:  # noqa: BLE001 - then it runs again, as it would have without us
            log.warning("%r: %d effects could not be noted: %s", self._home.destination, len(claims), error)

    async def renew(self, deliveries: Sequence[AnyDelivery]) -> Sequence[AnyDelivery]:
        """Renew claims and return those that are no longer ours; a store that is down takes nothing away."""
        if not deliveries:
            return []
        claims, asked_at = [delivery._claim for delivery in deliveries], self._loop.time()
        try:
            results = await self._guard.renew(claims)
        except Exception as error:  # noqa: BLE001 - the next beat tries again
            log.warning("%r: claims could not be renewed: %s", self._home.destination, error)
            return []
        refused = []
        for delivery, claim, current in zip(deliveries, claims, results, strict=True):
            if current:
                claim.until = asked_at + self._guard.lock
            elif delivery.fencing_token == claim.token:  # not given back meanwhile
                refused.append(delivery)
        return refused

    async def _give_back(self, claims: list[Claim], outcome: Release = "returned") -> None:
        outcomes: list[Release] = [outcome] * len(claims)
        try:
            await self._guard.release(claims, outcomes)
        except Exception as error:  # noqa: BLE001 - the locks run out by themselves
            log.warning("%r: %d claims could not be released: %s", self._home.destination, len(claims), error)

    def _later(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.create_task(work, name=f"unimsg.claims[{self._home.destination}].aside")
        self._aside.add(task)
        task.add_done_callback(self._aside_ended)

    def _aside_ended(self, task: asyncio.Task[None]) -> None:
        self._aside.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%r: unexpected", self._home.destination, exc_info=task.exception())
        self._home.moved()
