"""Subscriber: the way in, as a program sees it.

Law: turns settings and a handler into a consuming loop, and starts, moves and ends it. No policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Generic, TypeVar

from unimsg.capabilities import Needs, Replay, check
from unimsg.consuming.delivery import DROPPED, HELD, RUNNING, BatchHandler, Delivery, Handler
from unimsg.consuming.guard import Guard
from unimsg.consuming.handlers import Prepared, prepare
from unimsg.consuming.health import LoopHealth
from unimsg.consuming.loop import ConsumingLoop
from unimsg.consuming.services import Services
from unimsg.consuming.settings import Settings
from unimsg.consuming.supervisor import Supervisor
from unimsg.errors import ClosedError, ConfigError, DecodeError, OptionError
from unimsg.spi import Seeks, Start

T = TypeVar("T")


class Subscriber(Generic[T]):
    """Consumes one destination for one group: everything at least once, nothing acked before it is handled.

    Made by `Client.subscriber`, which documents the settings. It is used one way at a time: iterated, or run with a
    handler. Any number of subscribers share a group; each gets a part of its messages.
    """

    def __init__(
        self,
        services: Services,
        settings: Settings,
        *,
        ensure_open: Callable[[], Awaitable[None]],
        state: Any = None,  # noqa: ANN401 - whatever the program's lifespan yielded
    ) -> None:
        self._services = services
        self._settings = settings
        self._ensure_open = ensure_open
        self._state = state
        self._home: ConsumingLoop | None = None
        self._supervisor: Supervisor | None = None
        self._starting = False
        self._paused = False
        self._closed = False
        self.opened = asyncio.Event()
        """Set while it has had a receiver since it was started."""

    def __repr__(self) -> str:
        group = f" group={self._settings.group!r}" if self._settings.group else ""
        return f"<Subscriber of {self._settings.destination!r}{group}>"

    @property
    def destination(self) -> str:
        """What it consumes."""
        return self._settings.destination

    @property
    def group(self) -> str | None:
        """For whom."""
        return self._settings.group

    # ------------------------------------------------------------ three ways to consume

    def __aiter__(self) -> AsyncGenerator[Delivery[T], None]:  # noqa: PYI058 - a generator: `aclosing` takes it
        """Yield deliveries; each is yours until you settle it, best by `async with delivery`.

        With an order, the next of a lane comes only after the one before is settled. Leaving the loop stops the
        subscriber as a cancelled `run` does.
        """
        return self._iterate(until_idle=False)

    def until_idle(self) -> AsyncGenerator[Delivery[T], None]:
        """Yield deliveries as iteration does, and end when the destination has nothing more for this group."""
        return self._iterate(until_idle=True)

    async def _iterate(self, *, until_idle: bool) -> AsyncGenerator[Delivery[T], None]:
        if self._settings.batch is not None:
            raise ConfigError("batch= is for run(handler); iterate without it", destination=self.destination)
        async with self._consuming(None, until_idle=until_idle) as (home, supervisor):
            task = supervisor.start()
            while (delivery := await _next(home)) is not None:
                yield delivery
            if task.done():
                task.result()

    async def run(self, handler: Handler[T] | BatchHandler[T]) -> None:
        """Run `handler` for every message until the subscriber is closed or this call is cancelled.

        A cancellation stops in order: what runs may end within `drain`, what has not started goes back, everything is
        settled; a second one cancels what still runs. Connection loss never ends it; it reconnects with backoff.

        Args:
            handler: `async def` with one delivery in and nothing out; with `batch`, a list of deliveries.

        Raises:
            ConfigError: the handler or a setting cannot work here; nothing was received.
            CapabilityError: the backend as configured does not have what is needed.
            NotFoundError, PermissionDeniedError: the first open failed for good.
            ClosedError: the subscriber or its client is closed.
        """
        async with self._consuming(prepare(handler)) as (_, supervisor):
            await asyncio.shield(supervisor.start())

    async def run_until_idle(self, handler: Handler[T] | BatchHandler[T]) -> LoopHealth:
        """Run `handler` until the destination has nothing more for this group, retries included; then stop.

        Returns:
            The health at the end, with the counters of what became of everything received.

        Raises:
            As `run`.
        """
        async with self._consuming(prepare(handler), until_idle=True) as (home, supervisor):
            task = supervisor.start()
            idle = asyncio.create_task(home.idle.wait(), name=f"unimsg.idle[{self.destination}]")
            try:
                await asyncio.wait((task, idle), return_when=asyncio.FIRST_COMPLETED)
            finally:
                idle.cancel()
            if task.done():
                task.result()
        return home.report()

    # ------------------------------------------------------------ while it runs

    def pause(self) -> None:
        """Start nothing new and take in nothing more; what runs goes on, leases and memberships are kept."""
        self._paused = True
        if self._home is not None:
            self._home.paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        if self._home is not None:
            self._home.paused = False
            self._home.wake()
            self._home.reopen_intake()

    def set_aside(self, delivery: Delivery[T]) -> None:
        """Leave a delivery that iteration gave as it is until the subscriber ends; then it goes back uncounted.

        Its lease is kept meanwhile, and its lane goes on without it.
        """
        if self._home is not None and not delivery.settled:
            self._home.set_aside(delivery)

    async def seek(self, start: Start) -> None:
        """Move the whole group to `start`: the next message it gets is the first from there on.

        While this subscriber runs, what it has in hand is drained first, as by stop.

        Args:
            start: `"oldest"`, `"newest"`, a `Position`, or a `datetime` with a time zone.

        Raises:
            CapabilityError: the backend cannot replay, or not by time.
            OptionError: not one of these.
            BackendError: other members of the group live; nothing was moved.
        """
        replay: Replay = "time" if isinstance(start, datetime) else "position"
        Settings.build(self.destination, {"start": start})
        await self._ensure_open()
        services = self._services
        check(
            Needs(replay=replay),
            services.capabilities(),
            backend=services.backend,
            destination=self.destination,
            others=services.others,
        )
        if self._supervisor is not None and self._home is not None:
            await self._supervisor.errand(lambda link: _seek(link.receiver, start), self._settings.drain)
            return
        home = ConsumingLoop(services, self._settings, handler=None)
        link = await home.open_link()
        try:
            await _seek(link.receiver, start)
        finally:
            await link.aclose(abort=False)

    def health(self) -> LoopHealth:
        """How it is doing now; `running` is False before it runs and after it ended."""
        if self._home is not None:
            return self._home.report()
        return LoopHealth(self.destination, self.group)

    async def aclose(self, drain: float | None = None) -> None:
        """Stop in order, within `drain` seconds (the setting unless given); `run` and iteration then end."""
        self._closed = True
        if self._supervisor is not None:
            await self._supervisor.stop(drain)

    def hurry(self) -> None:
        """While it stops: cancel what still runs; it goes back and counts nothing."""
        if self._supervisor is not None:
            self._supervisor.hurry()

    # ------------------------------------------------------------ inside

    @asynccontextmanager
    async def _consuming(
        self, prepared: Prepared | None, *, until_idle: bool = False
    ) -> AsyncIterator[tuple[ConsumingLoop, Supervisor]]:
        if self._closed:
            raise ClosedError("this subscriber is closed: make another", destination=self.destination)
        if self._starting or self._supervisor is not None:
            raise ConfigError(
                "this subscriber runs already: make another for the same group", destination=self.destination
            )
        supervisor: Supervisor | None = None
        self._starting = True  # two runs at once are refused from the first moment on
        try:
            home = await self._build(prepared, until_idle=until_idle)
            self._home = home
            self._supervisor = supervisor = Supervisor(home, self.opened)
            yield home, supervisor
        finally:
            try:
                if supervisor is not None:
                    await _end(supervisor)
            finally:
                self._supervisor = None
                self._starting = False
                self.opened.clear()

    async def _build(self, prepared: Prepared | None, *, until_idle: bool) -> ConsumingLoop:
        await self._ensure_open()
        guard: Guard | None = None
        if prepared is not None and prepared.guarded is not None:
            has = self._services.capabilities()
            guard = await prepared.guarded.guard(
                destination=self.destination,
                group=self.group,
                lease=has.lease.seconds if has.lease else None,
                retention=has.retention,
            )
        home = ConsumingLoop(
            self._services,
            self._settings,
            handler=prepared.function if prepared is not None else None,
            handler_name=prepared.name if prepared is not None else "",
            guard=guard,
            state=self._state,
            until_idle=until_idle,
        )
        home.paused = self._paused
        return home


async def _end(supervisor: Supervisor) -> None:
    """Stop; a cancellation while that goes on makes it hurry, and is raised when it is done."""
    stop = asyncio.ensure_future(supervisor.stop())
    cancelled: asyncio.CancelledError | None = None
    while not stop.done():
        try:
            await asyncio.shield(stop)
        except asyncio.CancelledError as error:
            if stop.cancelled():
                raise
            cancelled = error
            supervisor.hurry()
    if cancelled is not None:
        raise cancelled


async def _next(home: ConsumingLoop) -> Delivery[Any] | None:
    """Return the next delivery, decoded and running; None when the loop ends."""
    while not home.stopping and home.health.running:
        delivery = None if home.paused else home.lanes.take()
        if delivery is None:
            home.rested()
            await home.change()
            continue
        if home.limiter is not None:
            await home.limiter.wait()
        assignment = delivery._received.assignment
        if delivery._state == DROPPED or (assignment is not None and not assignment.live):
            home.lanes.done(delivery)
            continue
        delivery._state = RUNNING
        reason = home.condemned(delivery)
        if reason is not None:
            await home.verdicts.bury(delivery, reason)
        else:
            try:
                delivery.body = home.decode(delivery._received.message)
            except DecodeError as error:
                home.undecodable()
                await home.verdicts.failed(delivery, error)
            else:
                return delivery
        if delivery._state != HELD:
            home.lanes.done(delivery)
    return None


async def _seek(receiver: Any, start: Start) -> None:  # noqa: ANN401 - a Receiver that may have Seeks
    if not isinstance(receiver, Seeks):
        raise OptionError("this backend declares replay and its receiver cannot seek: report this as a bug")
    await receiver.seek(start)
