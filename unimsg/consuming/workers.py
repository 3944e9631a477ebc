"""Workers: a fixed set of tasks, each awaiting the handler itself; no task, timer or exit stack for each message.

Law: knows where deliveries come from (`Source`) and where verdicts go; no backend. An idle worker sleeps on a future.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from unimsg.consuming.context import start
from unimsg.consuming.delivery import DROPPED, HELD, RUNNING, SETTLING, Delivery
from unimsg.errors import AssignmentLostError, DeadLetter, DecodeError, Fail

if TYPE_CHECKING:
    from unimsg.consuming.loop import ConsumingLoop

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
TURNS = 64
"""Messages after which a worker lets the rest of the event loop run."""


class Source(Protocol):
    """Where workers take from: lanes, or claims in front of lanes."""

    @property
    def ready(self) -> int:
        """How many workers could start now."""
        ...

    def take(self) -> AnyDelivery | None:
        """Return the next that may run, or None."""
        ...


class Slot:
    """What one worker is doing.

    Attributes:
        running: the deliveries in its handler; empty while it rests.
        started: when it first waited: what never waits cannot be cancelled.
        reason: why its handler was cancelled, if it was.
    """

    __slots__ = ("reason", "running", "started", "task")

    def __init__(self) -> None:
        self.running: tuple[AnyDelivery, ...] = ()
        self.started = 0.0
        self.reason: Literal["", "timeout", "lost", "stop"] = ""
        self.task: asyncio.Task[None] | None = None

    def cancel(self, reason: Literal["timeout", "lost", "stop"]) -> None:
        """Cancel the handler that runs here, if one does."""
        if self.running and not self.reason and self.task is not None:
            self.reason = reason
            self.task.cancel()


class Workers:
    """Runs a handler over what a source gives."""

    def __init__(
        self, home: ConsumingLoop, handler: Callable[[Any], Awaitable[None]], source: Source
    ) -> None:
        self._home = home
        self._handler: Callable[[Any], Any] = handler
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._idle: list[asyncio.Future[None]] = []
        self._stopping = False
        settings = home.settings
        work = self._work if settings.batch is None else self._work_in_batches
        self._gathering = asyncio.Lock()
        self.slots = [Slot() for _ in range(settings.concurrency)]
        for number, slot in enumerate(self.slots):
            slot.task = asyncio.create_task(
                work(slot), name=f"unimsg.worker[{settings.destination}][{number}]"
            )
        self._watch = self._loop.call_later(settings.timeout, self._check_timeouts)

    @property
    def idle(self) -> int:
        """How many workers rest."""
        return len(self._idle)

    def wake(self, count: int) -> None:
        """Something for `count` workers is ready."""
        idle = self._idle
        for _ in range(min(count, len(idle))):
            future = idle.pop()
            if not future.done():
                future.set_result(None)

    def cancel(self, gone: Callable[[AnyDelivery], bool], reason: Literal["lost", "stop"]) -> None:
        """Cancel the handlers that run a delivery for which `gone` holds."""
        for slot in self.slots:
            if any(gone(delivery) for delivery in slot.running):
                slot.cancel(reason)

    async def interrupt(self, grace: float) -> None:
        """Cancel what runs, as by stop; return when it has unwound and got its verdict, within `grace` seconds."""
        home = self._home
        for slot in self.slots:
            slot.cancel("stop")
        try:
            async with asyncio.timeout(grace):
                await home.until(
                    lambda: not any(d._state == RUNNING for d in home.live.difference(home.late))
                )
        except TimeoutError:
            log.warning("%r: handlers ignore their cancellation", self._home.destination)

    async def aclose(self, grace: float = 5.0) -> None:
        """End the workers: what still runs is cancelled as by stop, and given `grace` seconds to unwind."""
        self._stopping = True
        self._watch.cancel()
        if self._home.limiter is not None:
            self._home.limiter.close()
        for slot in self.slots:
            slot.cancel("stop")
        self.wake(len(self._idle))
        tasks = {slot.task for slot in self.slots if slot.task is not None}
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ one at a time

    async def _work(self, slot: Slot) -> None:  # noqa: C901 - the hot path: a call more costs every message
        take, clock, handler, home = self._source.take, self._loop.time, self._handler, self._home
        decode = home.decode if home.claims is None else None  # claims have decoded it
        done, verdicts = home.lanes.done, home.verdicts
        limiter, turns = home.limiter, 0
        while not self._stopping:
            if limiter is not None and self._source.ready:
                await limiter.wait()
            delivery = None if home.paused else take()
            if delivery is None:
                await self._rest()
                continue
            received = delivery._received
            assignment = received.assignment
            if (
                (assignment is not None and not assignment.live)
                or delivery._trouble is not None
                or received.deliveries > home.most_deliveries
            ) and not await self._admit(delivery):
                continue
            slot.running = (delivery,)
            delivery._slot = slot
            delivery._state = RUNNING
            try:
                if decode is not None:
                    delivery.body = decode(received.message)
                waits, result = start(handler, delivery)
                if waits:
                    slot.started = clock()
                    result = await result
                slot.running = ()
                if result is None and delivery._verb is None and not slot.reason:
                    verdicts.succeeded(delivery)
                else:
                    await self._unusual(slot, delivery, result)
            except BaseException as error:  # noqa: BLE001 - sorted out by its kind
                slot.running = ()
                await self._raised(slot, delivery, error)
            if delivery._state != HELD:
                done(delivery)
            if home.watchers:
                home.moved()
            turns += 1
            if not turns % TURNS:
                await asyncio.sleep(0)

    async def _rest(self) -> None:
        future = self._loop.create_future()
        self._idle.append(future)
        if len(self._idle) == len(self.slots):
            self._home.rested()
        await future

    async def _admit(self, delivery: AnyDelivery) -> bool:
        """Whether a delivery may start: it is still ours, and not condemned already."""
        home = self._home
        assignment = delivery._received.assignment
        if assignment is not None and not assignment.live:
            home.lost((delivery,), AssignmentLostError("the assignment is gone"))
            home.lanes.done(delivery)
            return False
        reason = home.condemned(delivery)
        if reason is None:
            return True
        delivery._state = RUNNING
        await home.verdicts.bury(delivery, reason)
        if delivery._state != HELD:
            home.lanes.done(delivery)
        home.moved()
        return False

    async def _unusual(self, slot: Slot, delivery: AnyDelivery, result: object) -> None:
        """The handler ended, but not simply: it settled by hand, gave something back, or outlived a cancellation."""
        reason, slot.reason = slot.reason, ""
        self._uncancel(slot)
        if delivery._verb is not None:
            await self._home.verdicts.apply(delivery)
        elif result is not None:
            await self._home.verdicts.failed(
                delivery, DeadLetter(f"the handler returned {type(result).__name__}; it must return None")
            )
        elif reason == "timeout":
            await self._home.verdicts.failed(delivery, self._late())
        else:  # lost: nothing is settled; stop: it finished in time after all
            self._home.verdicts.succeeded(delivery)

    async def _raised(self, slot: Slot, delivery: AnyDelivery, error: BaseException) -> None:
        home = self._home
        reason, slot.reason = slot.reason, ""
        if reason:
            self._uncancel(slot)
        if delivery._verb is not None and isinstance(error, Exception):
            log.error("%s raised after it was settled by hand", home.describe(delivery), exc_info=error)
            await home.verdicts.apply(delivery)
        elif isinstance(error, asyncio.CancelledError):
            if reason in ("stop", "lost"):
                await home.verdicts.give_back(delivery)
            elif reason == "timeout":
                await home.verdicts.failed(delivery, self._late())
            elif not reason and slot.task is not None and slot.task.cancelling():
                await home.verdicts.give_back(delivery)
                raise error
            elif not reason:  # something that the handler awaited was cancelled: that is its failure
                await home.verdicts.failed(
                    delivery, Fail("the handler was cancelled by something it awaited")
                )
        elif isinstance(error, DecodeError):
            home.undecodable()
            await home.verdicts.failed(delivery, error)
        elif isinstance(error, Exception):
            await home.verdicts.failed(delivery, error)
        else:  # KeyboardInterrupt, SystemExit: nothing is acked, it goes on up
            await home.verdicts.give_back(delivery)
            raise error

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the handler ran for more than {self._home.settings.timeout:g} s")

    @staticmethod
    def _uncancel(slot: Slot) -> None:
        while slot.task is not None and slot.task.cancelling():
            slot.task.uncancel()

    def _check_timeouts(self) -> None:
        now, timeout = self._loop.time(), self._home.settings.timeout
        next_check = now + timeout
        for slot in self.slots:
            if slot.running:
                if now - slot.started >= timeout:
                    slot.cancel("timeout")
                else:
                    next_check = min(next_check, slot.started + timeout)
        self._watch = self._loop.call_at(next_check, self._check_timeouts)

    # ------------------------------------------------------------ a list at a time

    async def _work_in_batches(self, slot: Slot) -> None:
        while not self._stopping:
            async with self._gathering:  # one worker gathers at a time, so that lists fill up
                batch = await self._gather()
            if batch:
                await self._run_batch(slot, batch)

    async def _gather(self) -> list[AnyDelivery]:
        home, size = self._home, self._home.settings.batch or 1
        batch: list[AnyDelivery] = []
        until: float | None = None
        while len(batch) < size and not self._stopping:
            delivery = None if home.paused else self._source.take()
            while delivery is not None:
                if await self._admit(delivery) and await self._decoded(delivery):
                    batch.append(delivery)
                if len(batch) == size:
                    return batch
                delivery = home.take_more(delivery) or self._source.take()
            if until is None and batch:
                until = self._loop.time() + home.settings.batch_wait
            left = None if until is None else until - self._loop.time()
            if batch and (home.stopping or (left is not None and left <= 0)):
                break
            try:
                async with asyncio.timeout(left):
                    await self._rest()
            except TimeoutError:
                break
        return batch

    async def _decoded(self, delivery: AnyDelivery) -> bool:
        delivery._state = RUNNING
        if self._home.claims is not None:
            return True
        try:
            delivery.body = self._home.decode(delivery._received.message)
        except DecodeError as error:
            self._home.undecodable()
            await self._home.verdicts.failed(delivery, error)
            if delivery._state != HELD:
                self._home.lanes.done(delivery)
            return False
        return True

    async def _run_batch(self, slot: Slot, batch: list[AnyDelivery]) -> None:
        home = self._home
        batch = [
            delivery for delivery in batch if delivery._state != DROPPED
        ]  # lost while they were gathered
        if not batch:
            return
        for delivery in batch:
            delivery._slot = slot
        slot.running = tuple(batch)
        problem: BaseException | None = None
        try:
            waits, result = start(self._handler, batch)
            if waits:
                slot.started = self._loop.time()
                result = await result
            if result is not None:
                problem = DeadLetter(f"the handler returned {type(result).__name__}; it must return None")
        except BaseException as error:  # noqa: BLE001 - sorted out for each delivery below
            problem = error
        slot.running = ()
        reason = slot.reason
        for delivery in batch:
            slot.reason = reason
            if delivery._state in (SETTLING, DROPPED):
                pass
            elif delivery._verb is not None or problem is None:
                await self._unusual(slot, delivery, None)
            else:
                await self._raised(slot, delivery, problem)
            if delivery._state != HELD:
                home.lanes.done(delivery)
        slot.reason = ""
        home.moved()
