"""Call: the other reading of the decorator, a plain async function that is run once for each key.

Law: claim, run, complete, in the caller's own task. One heartbeat for all calls of a function renews what runs long; a
call that is cancelled ends what it owes to the store first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from unimsg.codecs import Codec
from unimsg.consuming.delivery import Delivery
from unimsg.errors import Defer, IdempotencyError, InProgressError, LeaseLostError, StoreUnavailableError
from unimsg.idempotency.guard import reused
from unimsg.idempotency.outcome import again, kept
from unimsg.idempotency.policy import Policy
from unimsg.idempotency.store import Answer, Ask, End, Grip
from unimsg.policies.backoff import Backoff

log = logging.getLogger("unimsg.idempotency")
T = TypeVar("T")

BEATS = 6
"""Heartbeats in one lock: a claim is renewed in its second half, with tries left after a failure."""
PATIENCE = 30.0
"""Seconds at most, and half of the lock, to retry a completion that the store cannot take."""


class _Run:
    """A call that runs."""

    __slots__ = ("grip", "lost", "task", "until")

    def __init__(self, grip: Grip, until: float) -> None:
        self.grip = grip
        self.task = asyncio.current_task()
        self.until = until
        self.lost = False


class Calls:
    """Runs one function, once for each key.

    Args:
        policy: of the decorator.
        function: what has the effect.
        name: of it, for scope and sentences.
        codec: how its results are kept; None: it returns nothing.
    """

    def __init__(
        self, policy: Policy, function: Callable[..., Awaitable[Any]], name: str, codec: Codec[Any] | None
    ) -> None:
        self._policy = policy
        self._function = function
        self._name = name
        self._codec = codec
        self._scope = policy.scope_of(name)
        self._lock = policy.lock_for(None)
        self._beat = Heartbeat(policy, self._lock)

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - what it returns
        """Run it, or return what it returned for this key before."""
        store, loop = self._policy.store, asyncio.get_running_loop()
        if not store.join(loop):
            async with store:
                return await self.run(args, kwargs)
        try:
            delivery, scope = None, self._scope
            if args and isinstance(
                args[0], Delivery
            ):  # a handler called by hand has the rows that its loop has
                delivery = args[0]
                scope = self._policy.scope_of(self._name, delivery.destination, delivery.group)
            ask = self._policy.ask(scope, delivery, args, kwargs)
            asked_at = loop.time()
            answer = await self._asked(ask) if ask is not None else None
            if ask is None or answer is None:
                return await self._function(*args, **kwargs)
            if answer.state != "acquired":
                return self._duplicate(ask, answer, delivery)
            grip = Grip(ask.scope, ask.key, answer.token)
            if store.shared and loop.time() - asked_at >= self._lock:
                await self._release(grip, "returned")
                raise StoreUnavailableError(f"the store took longer than a claim lasts ({self._lock:g} s)")
            if delivery is not None:
                delivery.fencing_token = answer.token
                delivery.attempt = max(delivery.attempt, answer.attempts + 1)
            return await self._claimed(loop, _Run(grip, asked_at + self._lock), args, kwargs)
        finally:
            if not store.leave():
                await store.__aexit__(None, None, None)

    async def _asked(self, ask: Ask) -> Answer | None:
        """Claim it; None: the store is down, and it is to run all the same."""
        policy = self._policy
        try:
            (answer,) = await policy.store.claim((ask,), lock=self._lock, ttl=policy.ttl)
            if not isinstance(answer, StoreUnavailableError):
                return answer
            raise answer
        except StoreUnavailableError as error:
            if policy.on_store_error == "defer":
                raise
            log.warning("%s runs unclaimed: %s", self._name, error)
            return None

    def _duplicate(self, ask: Ask, answer: Answer, delivery: Delivery[Any] | None) -> Any:  # noqa: ANN401 - what it returned
        if answer.state == "completed":
            return again(self._codec, answer.outcome, self._name, ask.key)
        if answer.state == "in_progress":
            raise InProgressError(
                f"{self._name} runs for key {ask.key!r}, for {answer.remaining:.3g} s more at least",
                retry_after=answer.remaining,
            )
        if answer.state == "reused":
            raise reused(ask)
        if delivery is not None:
            return None
        raise IdempotencyError(f"{self._name} failed for good for key {ask.key!r}")

    async def _claimed(
        self, loop: asyncio.AbstractEventLoop, run: _Run, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - what it returns
        grip = run.grip
        self._beat.add(run, loop)
        try:
            result = await self._function(*args, **kwargs)
        except BaseException as error:
            self._beat.remove(run)
            if run.lost:
                await _uncancel(run.task)
                if isinstance(error, asyncio.CancelledError):
                    self._refuse(grip, error)
            uncounted = isinstance(error, Defer) or not isinstance(error, Exception)
            await self._release(grip, "returned" if uncounted else "failed")
            raise
        self._beat.remove(run)
        if run.lost:
            await _uncancel(run.task)
        outcome = kept(self._codec, result, self._name) if result is not None else None
        completing = self._complete(grip, outcome)
        if not await (
            self._owed(completing) if self._policy.store.shared else completing
        ):  # else it never waits
            self._refuse(grip, None)
        return result

    def _refuse(self, grip: Grip, cause: BaseException | None) -> NoReturn:
        raise LeaseLostError(f"another worker took key {grip.key!r} of {self._name} while it ran") from cause

    async def _owed(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish what is owed to the store, also when this call is cancelled meanwhile; then that is raised."""
        task = asyncio.create_task(work, name=f"unimsg.call[{self._name}]")
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
            except Exception:  # noqa: BLE001 - raised below, by the result
                break
        if cancelled is not None:
            raise cancelled
        return task.result()

    async def _complete(self, grip: Grip, outcome: bytes | None) -> bool:
        """Complete, for as long as the claim surely lasts; then give up: raising would invite a second effect."""
        store, ttl = self._policy.store, self._policy.ttl
        backoff: Backoff | None = None
        until = 0.0
        while True:
            try:
                (current,) = await store.complete((grip,), (outcome,), ttl=ttl)
            except StoreUnavailableError as error:
                now = asyncio.get_running_loop().time()
                if backoff is None:
                    backoff, until = Backoff(initial=0.05, max=2.0), now + min(self._lock / 2, PATIENCE)
                pause = backoff.next()
                if now + pause >= until:
                    log.error("%s was done and could not be marked so: %s", self._name, error)  # noqa: TRY400 - foreseen
                    return True
                await asyncio.sleep(pause)
            else:
                return current

    async def _release(self, grip: Grip, end: End) -> None:
        try:
            await self._owed(self._released(grip, end))
        except StoreUnavailableError as error:
            log.warning("a claim of %s could not be released, it runs out by itself: %s", self._name, error)

    async def _released(self, grip: Grip, end: End) -> None:
        await self._policy.store.release((grip,), (end,), ttl=self._policy.ttl)


class Heartbeat:
    """Renews the claims of calls that run long, all in one call; a call that lost its claim is cancelled."""

    def __init__(self, policy: Policy, lock: float) -> None:
        self._policy = policy
        self._lock = lock
        self._running: set[_Run] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    def add(self, run: _Run, loop: asyncio.AbstractEventLoop) -> None:
        """It runs now."""
        if loop is not self._loop:
            self._loop, self._timer = loop, None
            self._running.clear()
        self._running.add(run)
        if self._timer is None:
            self._timer = loop.call_later(self._lock / BEATS, self._tick)

    def remove(self, run: _Run) -> None:
        """It has ended."""
        self._running.discard(run)

    def _tick(self) -> None:
        self._timer = None
        if self._loop is None or not self._running:
            return
        self._timer = self._loop.call_later(self._lock / BEATS, self._tick)
        if self._renewing is None or self._renewing.done():
            self._renewing = self._loop.create_task(self._renew(), name="unimsg.heartbeat")

    async def _renew(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        due = [run for run in self._running if run.until <= asked_at + self._lock / 2 and not run.lost]
        if not due:
            return
        try:
            results = await self._policy.store.renew([run.grip for run in due], lock=self._lock)
        except StoreUnavailableError as error:
            log.warning("%d claims could not be renewed: %s", len(due), error)  # the next beat tries again
            return
        for run, current in zip(due, results, strict=True):
            if current:
                run.until = asked_at + self._lock
            elif run in self._running:
                run.lost = True
                if run.task is not None:
                    run.task.cancel()


async def _uncancel(task: asyncio.Task[Any] | None) -> None:
    """Take the heartbeat's cancellation back, whether or not it has arrived yet."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    if task is not None:
        task.uncancel()
