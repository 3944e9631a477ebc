"""Link: one receiver from its opening to its loss, with what belongs to it alone: settler, intake, leases, watermarks.

Law: a token is good only on the link that gave it. When the receiver is lost all that came through it is lost with
it, and the loop opens a new link. It is what a backend knows as `Events`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from unimsg.consuming.delivery import HELD, WAITING, Delivery
from unimsg.consuming.intake import Intake
from unimsg.consuming.leases import LeaseKeeper
from unimsg.consuming.settler import Settler
from unimsg.consuming.watermark import Watermark
from unimsg.errors import AssignmentLostError
from unimsg.spi import Assignment, Extends, Pausable, Receiver

if TYPE_CHECKING:
    from unimsg.consuming.loop import ConsumingLoop

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
CLOSE_TIMEOUT = 10.0
"""Seconds that closing a receiver may take."""
SPAN = 4
"""Times prefetch: the most that may stand above the watermark of one assignment."""


class Link:
    """One generation of the way in."""

    receiver: Receiver
    settler: Settler
    intake: Intake

    def __init__(self, home: ConsumingLoop) -> None:
        self._home = home
        self._span = SPAN * home.settings.prefetch
        self._keeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self.paused: dict[Assignment, Hashable] = {}
        """Assignments that were paused because they, or one lane of theirs, have too much in hand."""
        self._leaving: set[Assignment] = set()
        self.open = True

    def holds(self, assignment: Assignment) -> bool:
        """Whether messages of an assignment may still be taken in."""
        return assignment.live and assignment not in self._leaving

    def attach(self, receiver: Receiver) -> None:
        """The receiver is open: start what serves it."""
        home = self._home
        self.receiver = receiver
        self.settler = Settler(receiver, home, home.services.translate, home.settings.destination)
        self.intake = Intake(home, self)

    async def run(self) -> None:
        """Take in until stopped; raises what makes the receiver useless."""
        home, lease, claims = self._home, self._home.capabilities.lease, self._home.claims
        extends = lease is not None and lease.extendable and isinstance(self.receiver, Extends)
        if extends or claims is not None:
            keeper = LeaseKeeper(
                self.receiver if extends and isinstance(self.receiver, Extends) else None,
                lease.seconds if lease is not None else 0.0,
                alive=lambda: [d for d in home.live if d._link is self],
                lock=claims.lock if claims is not None else 0.0,
                renew=claims.renew if claims is not None else None,
                lost=home.lost,
                translate=home.services.translate,
            )
            self._keeper = asyncio.create_task(
                keeper.run(), name=f"unimsg.leases[{home.settings.destination}]"
            )
            self._keeper.add_done_callback(self._ended)
        self.intake.start(self._failed)
        await self._failed

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    def finish(self) -> None:
        """The loop has stopped: `run` returns."""
        if not self._failed.done():
            self._failed.set_result(None)

    async def aclose(self, *, abort: bool) -> None:
        """Close the receiver and all that serves it."""
        self.open = False
        if abort:
            await self.intake.abort()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.settler.aclose()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.receiver.aclose(abort=abort)
        except Exception as error:  # noqa: BLE001 - it is being thrown away; what it held comes again
            log.warning("closing the receiver of %r failed: %r", self._home.settings.destination, error)
        if not self._failed.done():
            self._failed.set_result(None)

    # ------------------------------------------------------------ log: watermarks and pauses

    def track(self, delivery: AnyDelivery, assignment: Assignment) -> None:
        """Put a delivery above the watermark of its assignment."""
        watermark = self.settler.watermarks.get(assignment)
        if watermark is None:
            self.settler.watermarks[assignment] = watermark = Watermark()
        if watermark.add(delivery) > self._span:
            watermark.advance()
            if watermark.span > self._span:
                self.pause(assignment, None)

    def pause(self, assignment: Assignment, lane: Hashable) -> None:
        """Take no more from an assignment until `reconsider` finds that it may go on."""
        if assignment in self.paused or not assignment.live:
            return
        self.paused[assignment] = lane
        if isinstance(self.receiver, Pausable):
            self.receiver.pause([assignment])

    def reconsider(self) -> None:
        """Resume what was paused and has room again."""
        home, free = self._home, []
        for assignment, lane in list(self.paused.items()):
            watermark = self.settler.watermarks.get(assignment)
            if watermark is not None:
                watermark.advance()
            full = watermark is not None and watermark.span > self._span // 2
            crowded = lane is not None and home.lanes.waiting_in(lane) > home.lane_limit // 2
            if not assignment.live:
                del self.paused[assignment]
            elif not full and not crowded:
                del self.paused[assignment]
                free.append(assignment)
        if free:
            if isinstance(self.receiver, Pausable):
                self.receiver.resume(free)
            self.intake.open_gate()

    @property
    def blocked(self) -> bool:
        """Whether a pause has to stop all intake, since the backend cannot pause one assignment."""
        return bool(self.paused) and not isinstance(self.receiver, Pausable)

    # ------------------------------------------------------------ Events

    def assigned(self, assignments: Sequence[Assignment], /) -> None:
        """The member was given these."""
        log.info(
            "%r: assigned %s",
            self._home.settings.destination,
            ", ".join(a.id for a in assignments) or "nothing",
        )
        self._home.health.assignments.update(a.id for a in assignments)

    async def revoked(self, assignments: Sequence[Assignment], deadline: float, /) -> None:
        """Drain and settle these until `deadline`; see `unimsg.spi.Events`."""
        mine = set(assignments)
        self._leaving |= mine
        home = self._home
        keep = self.unfinished_below(mine)
        home.drop_waiting(lambda d: d._received.assignment in mine and d not in keep)
        try:
            async with asyncio.timeout_at(deadline):
                await home.until(lambda: not self._runs(mine))
                await home.flush(self)
        except TimeoutError:
            log.warning(
                "%r: %d revoked assignments were not drained in time", home.settings.destination, len(mine)
            )
        self._forget(mine)

    def _runs(self, mine: set[Assignment]) -> bool:
        return any(d._received.assignment in mine and d._link is self for d in self._home.live)

    def unfinished_below(self, mine: set[Assignment] | None = None) -> set[AnyDelivery]:
        """Return what waits below the highest position that is finished or runs: running it saves a replay."""
        keep: set[AnyDelivery] = set()
        for assignment, watermark in self.settler.watermarks.items():
            if mine is None or assignment in mine:
                watermark.advance()
                keep |= {d for d in watermark.below_highest_begun() if d._state in (WAITING, HELD)}
        return keep

    def lost(self, assignments: Sequence[Assignment], /) -> None:
        """These are gone: drop what waits, cancel what runs, forget acks that were not sent."""
        mine = set(assignments)
        log.warning("%r: lost %s", self._home.settings.destination, ", ".join(a.id for a in assignments))
        self._forget(mine)

    def _forget(self, mine: set[Assignment]) -> None:
        home = self._home
        self._leaving -= mine
        for assignment in mine:
            assignment.live = False
        gone = [d for d in home.live if d._received.assignment in mine and d._link is self]
        if gone:
            home.lost(gone, AssignmentLostError("the assignment was taken away"))
        for assignment in mine:
            self.settler.watermarks.pop(assignment, None)
            self.paused.pop(assignment, None)
            home.health.assignments.discard(assignment.id)

    def wake(self) -> None:
        """Something changed that a waiting loop should look at."""
        self.intake.open_gate()
