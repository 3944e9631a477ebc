"""Supervisor: keeps a consuming loop connected, and ends it in order.

Law: one task for a loop. It opens a link, opens another when that is lost, and on stop walks the way of a message with
the intake closed: stop receiving, drain what was accepted, settle, give back what was not started, close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from unimsg.consuming.delivery import HELD, RUNNING, WAITING, Delivery
from unimsg.consuming.link import Link
from unimsg.errors import ConfigError, ConnectionLostError, Error, NotFoundError, PermissionDeniedError
from unimsg.policies.backoff import Backoff

if TYPE_CHECKING:
    from unimsg.consuming.loop import ConsumingLoop

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
PERMANENT = (ConfigError, NotFoundError, PermissionDeniedError)
"""What ends a loop at its first open; later it is retried like anything else."""
STABLE = 30.0
"""Seconds after which a link that is lost was a good one: the next is opened without a long pause."""
UNWIND = 5.0
"""Seconds that cancelled handlers, and the last settlements, are given beyond the drain budget."""
BLINK = 0.5
"""Seconds in which what was due already is looked at."""
SPARE = 2.0
"""Seconds that the drain budget must exceed the longest poll, where a poll cannot be cancelled."""


class Supervisor:
    """Runs one consuming loop."""

    def __init__(self, home: ConsumingLoop, opened: asyncio.Event) -> None:
        self._home = home
        self.opened = opened
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopper: asyncio.Task[None] | None = None
        self._hurried = False
        self._opening: asyncio.Task[Link] | None = None

    def start(self) -> asyncio.Task[None]:
        """Start the task; it ends when stopped, or raises what made the first open fail for good."""
        self._home.health.running = True
        self._task = asyncio.create_task(self._run(), name=f"unimsg.loop[{self._home.destination}]")
        return self._task

    # ------------------------------------------------------------ open, and open again

    async def _run(self) -> None:
        home, backoff = self._home, Backoff(initial=0.1, max=30.0)
        try:
            while not self._stop.is_set():
                opened_at = self._loop.time()
                try:
                    link = await self._opened()
                except Exception as raised:  # noqa: BLE001 - translated; permanent only at the first open
                    error: Exception | None = self._translated(raised)
                    if isinstance(error, PERMANENT) and not self.opened.is_set():
                        raise error from (raised if raised is not error else None)
                    home.health.redden("connection", f"cannot consume: {error}")
                else:
                    if link is None:
                        return
                    self.opened.set()
                    home.health.green("connection")
                    error = await self._serve(link)
                    if error is None:
                        continue
                    home.health.redden("connection", f"the way in was lost: {error}")
                    if self._loop.time() - opened_at >= STABLE:
                        backoff.reset()
                await self._pause(max(backoff.next(), getattr(error, "retry_after", None) or 0.0))
        finally:
            home.health.running = False
            home.moved()

    async def _serve(self, link: Link) -> Exception | None:
        """Take in through a link until it is lost or closed; return what broke it."""
        try:
            await link.run()
        except Exception as raised:  # noqa: BLE001 - whatever it was, this link is over
            error = self._translated(raised)
        else:
            return None
        home = self._home
        link.open = False
        home.lost(
            [d for d in home.live if d._link is link],
            ConnectionLostError(str(error), destination=home.destination),
        )
        await link.aclose(abort=True)
        return error

    def _translated(self, raised: Exception) -> Exception:
        if isinstance(raised, Error):
            return raised
        return self._home.services.translate(raised) or raised

    async def _opened(self) -> Link | None:
        """Open a link; None: it was stopped meanwhile, which cancels the attempt."""
        name = f"unimsg.open[{self._home.destination}]"
        self._opening = opening = asyncio.create_task(self._open(), name=name)
        try:
            await asyncio.wait((opening,))
            return None if opening.cancelled() else opening.result()
        finally:
            opening.cancel()

    async def _open(self) -> Link:
        """Open a link: one attempt; refused where the drain budget cannot outlast a poll."""
        link = await self._home.open_link()
        limits, drain = link.receiver.limits, self._home.settings.drain
        if limits.cancel_safe or drain >= limits.wait + SPARE:
            return link
        await link.aclose(abort=True)
        raise ConfigError(
            f"drain={drain:g} s is too short: a poll lasts {limits.wait:g} s and must end first; "
            f"give at least {limits.wait + SPARE:g} s, or shorten wait=",
            backend=self._home.backend,
            destination=self._home.destination,
        )

    async def _pause(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._stop.wait()
        except TimeoutError:
            pass

    # ------------------------------------------------------------ errands: what needs an empty loop

    async def errand(self, work: Callable[[Link], Awaitable[None]], drain: float) -> None:
        """Empty the loop, do `work` on the link, and go on with a new one; for `seek`."""
        home = self._home
        await self.opened.wait()
        link = home.link
        if link is None or not link.open:
            raise ConnectionLostError("there is no connection now: try again", destination=home.destination)
        home.stopping = True
        try:
            await self._wind_down(link, self._loop.time() + drain)
            await work(link)
        finally:
            home.late.clear()
            home.held.divert(None)
            home.stopping = self._stop.is_set()
            await link.aclose(abort=False)

    # ------------------------------------------------------------ stop

    async def stop(self, drain: float | None = None) -> None:
        """Drain and end; safe to call twice, a second call with a shorter budget does not shorten the first."""
        if self._stopper is None:
            budget = self._home.settings.drain if drain is None else drain
            self._stopper = asyncio.create_task(
                self._end(budget), name=f"unimsg.stop[{self._home.destination}]"
            )
        await asyncio.shield(self._stopper)

    def hurry(self) -> None:
        """Cancel what still runs: the second signal."""
        self._hurried = True
        self._home.moved()

    async def _end(self, budget: float) -> None:
        home, deadline = self._home, self._loop.time() + budget
        home.stopping = True
        self._stop.set()
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait((self._opening,), timeout=UNWIND)
        link = home.link
        try:
            if link is not None and link.open:
                await self._wind_down(link, deadline)
        finally:
            if home.workers is not None:
                await home.workers.aclose(UNWIND)
            if home.claims is not None:
                await home.claims.aclose()
            if link is not None and link.open:
                await link.aclose(abort=False)
            if self._task is not None:
                _, hanging = await asyncio.wait((self._task,), timeout=UNWIND)
                if hanging:  # in an open that ignores its cancellation
                    self._task.cancel()
                    await asyncio.wait((self._task,))
            home.held.close()
            if home.live:
                home.forget(list(home.live))
            home.moved()

    async def _wind_down(self, link: Link, deadline: float) -> None:
        """Empty the loop by `deadline`: what runs may end, what has not started goes back, all of it settled."""
        home = self._home
        late_drain = link.receiver.limits.intake_ends == "after_drain"
        intake = asyncio.create_task(
            self._end_intake(link, quiet=late_drain), name=f"unimsg.intake[{home.destination}].stop"
        )
        keep = link.unfinished_below() - home.held.beyond(deadline) if link.settler.cumulative else set()
        home.late += home.take_waiting(lambda d: d not in keep)
        home.wake_all()
        try:
            async with asyncio.timeout_at(deadline):
                await home.until(lambda: self._hurried or not self._at_work())
        except TimeoutError:
            log.warning("%r: handlers did not end within the drain budget: cancelled", home.destination)
        home.held.divert(home.late)
        home.late += home.take_waiting(lambda _: True)
        if home.workers is not None:
            await home.workers.interrupt(UNWIND)
        try:
            await self._settle(link, intake, max(deadline, self._loop.time() + UNWIND))
        except Exception as error:  # noqa: BLE001 - the service is gone; what is not settled comes again
            log.warning("%r: the end was not orderly: %s", home.destination, error)

    async def _settle(self, link: Link, intake: asyncio.Task[None], deadline: float) -> None:
        """Settle what has a verdict and hand back the rest by `deadline`; what is not done by then comes again.

        Where this process stood still, the last poll and the time are over at once: a blink more tells them apart.
        """
        in_time = await self._settled(link, intake, deadline)
        if in_time or await self._settled(link, intake, self._loop.time() + BLINK):
            return
        log.warning("%r: not everything could be settled before the end", self._home.destination)
        await link.intake.abort()
        intake.cancel()

    async def _settled(self, link: Link, intake: asyncio.Task[None], deadline: float) -> bool:
        """Whether it could be done in time; the last poll must have ended first, it would catch what is handed back."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._home.flush(link)
                await asyncio.shield(intake)
                await self._give_back(link)
        except TimeoutError:
            return False
        return True

    async def _give_back(self, link: Link) -> None:
        """Hand back what nobody will run any more, in the order in which it came; return when that is settled."""
        home, limits = self._home, link.receiver.limits
        if limits.intake_ends == "after_drain" and limits.release != "close":
            await link.receiver.stop_intake()  # else the next consumer would overtake what is still out
        for delivery in sorted(home.late, key=lambda d: d._seq):
            if delivery in home.live:
                home.release(delivery)
        await link.settler.flush()

    async def _end_intake(self, link: Link, *, quiet: bool) -> None:
        await link.intake.stop()
        if not quiet:
            await link.receiver.stop_intake()

    def _at_work(self) -> bool:
        """Whether anything in hand still has no verdict and is not put aside."""
        aside = set(self._home.late)
        return any(d._state in (WAITING, RUNNING, HELD) and d not in aside for d in self._home.live)
