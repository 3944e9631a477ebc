"""Intake: asks a receiver for more, as much as there is room for, for as long as its link lives.

Law: one receiver; never a message of its own opinion. A long poll that is not safe to cancel is never cancelled.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from unimsg.errors import BackendError, PermissionDeniedError, ThrottledError, TimedOutError, UnavailableError
from unimsg.policies.backoff import Backoff
from unimsg.spi import Lags

if TYPE_CHECKING:
    from unimsg.consuming.link import Link
    from unimsg.consuming.loop import ConsumingLoop

STAYS = (ThrottledError, TimedOutError, UnavailableError, PermissionDeniedError)
"""Errors after which the same receiver is asked again."""
AGAIN = 1.0
"""Seconds after which a run until idle that has something in hand asks whether there is more."""
LAG_EVERY = 10.0
"""Seconds from one question for the lag to the next, and the most that one may take."""
LAG_ENDS = 1.0
"""Seconds that a question for the lag has to end in when it is cancelled: nothing waits longer for it."""


class Intake:
    """The pumps of one link: one, and more while answers come full and the backend gains by it."""

    def __init__(self, home: ConsumingLoop, link: Link) -> None:
        self._home = home
        self._link = link
        self._receiver = link.receiver
        self._limits = link.receiver.limits
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        self._extra: set[asyncio.Task[None]] = set()
        self._gate: set[asyncio.Future[None]] = set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._lag: asyncio.Task[None] | None = None
        self.last_poll = self._loop.time()

    def start(self, failed: asyncio.Future[None]) -> None:
        """Start the first pump; `failed` gets the error that ends the link."""
        self._failed = failed
        name = f"unimsg.intake[{self._home.settings.destination}]"
        self._task = asyncio.create_task(self._pump(first=True), name=name)
        if isinstance(self._receiver, Lags):
            name = f"unimsg.lag[{self._home.settings.destination}]"
            self._lag = asyncio.create_task(self._watch_lag(self._receiver), name=name)

    def open_gate(self) -> None:
        """There may be room again."""
        for future in self._gate:
            if not future.done():
                future.set_result(None)

    @property
    def waiting(self) -> bool:
        """Whether a pump waits for room."""
        return bool(self._gate)

    async def stop(self) -> None:
        """Ask for nothing more; return when the last poll has ended, its late arrivals handed over."""
        self._stopping = True
        self.open_gate()
        await self._forget_lag()
        tasks = [task for task in (self._task, *self._extra) if task is not None]
        if self._limits.cancel_safe:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def abort(self) -> None:
        """Stop without manners: the receiver is gone."""
        self._stopping = True
        await self._forget_lag()
        tasks = [
            task
            for task in (self._task, *self._extra)
            if task is not None and task is not asyncio.current_task()
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch_lag(self, receiver: Lags) -> None:
        """Keep the lag in the health; an answer that does not come leaves none, and disturbs nothing."""
        health = self._home.health
        while True:
            try:
                async with asyncio.timeout(LAG_EVERY):
                    health.lag = await receiver.lag()
            except Exception:  # noqa: BLE001 - whether the receiver works is found out by asking it for messages
                health.lag = None
            await asyncio.sleep(LAG_EVERY)

    async def _forget_lag(self) -> None:
        if self._lag is not None:
            self._lag.cancel()
            await asyncio.wait((self._lag,), timeout=LAG_ENDS)
        self._home.health.lag = None

    # ------------------------------------------------------------ pumping

    async def _pump(self, *, first: bool) -> None:
        backoff = Backoff(initial=0.1, max=30.0)
        while not self._stopping:
            room = await self._room()
            if self._stopping:
                return
            try:
                full = await self._receive(room)
            except STAYS as error:
                self._home.health.redden("intake", str(error))
                pause = max(backoff.next(), error.retry_after or 0.0)
                await self._sleep(pause)
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, this receiver is of no further use
                if not self._failed.done():
                    self._failed.set_exception(self._translated(error))
                return
            backoff.reset()
            if full:
                self._grow()
            elif not first:
                return

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, BackendError):
            return error
        return self._home.services.translate(error) or error

    async def _receive(self, room: int) -> bool:
        limits, home = self._limits, self._home
        count = min(room, limits.max_messages)
        wait = self._patience if room else 0.0
        quiet = (
            self._empty and not self._asked
        )  # else an empty answer only says that others have what there is
        self._asked += count
        try:
            batch = await self._receiver.receive_batch(count, wait)
        finally:
            self._asked -= count
            self.open_gate()  # what the answer does not fill is room again, for a pump that waits
        self.last_poll = self._loop.time()
        home.health.green("intake")
        if batch:
            home.accept(self._link, batch)
        elif room and home.until_idle:
            await self._idle(quiet=quiet)
        return bool(count) and len(batch) == limits.max_messages

    @property
    def _patience(self) -> float:
        """How long to wait for a message; not at all where an empty answer would only say that one is in hand."""
        if not self._home.until_idle:
            return self._limits.wait
        return self._limits.idle if self._empty else 0.0

    @property
    def _empty(self) -> bool:
        """Whether nothing is in hand but what was set aside until the end."""
        return not self._home.live or self._home.live.issubset(self._home.late)

    async def _idle(self, *, quiet: bool) -> None:
        """An answer was empty and somebody waits for the end; `quiet`: nothing was out before."""
        home = self._home
        if not self._empty:
            with suppress(TimeoutError):  # what is in hand may wait for what comes late
                async with asyncio.timeout(min(AGAIN, self._limits.poll_every or AGAIN)):
                    await home.change()
        elif quiet:
            home.idle.set()
            home.stopping = True
            home.moved()

    def _grow(self) -> None:
        if 1 + len(self._extra) < self._limits.in_flight and self._home.room(self._asked) > 0:
            name = f"unimsg.intake[{self._home.settings.destination}][{len(self._extra) + 1}]"
            task = asyncio.create_task(self._pump(first=False), name=name)
            self._extra.add(task)
            task.add_done_callback(self._extra.discard)

    async def _room(self) -> int:
        """Wait until something may be asked for; 0 means: poll for the sake of the membership only."""
        while True:
            room = self._home.room(self._asked)
            if room > 0 or self._stopping:
                return room
            future = self._loop.create_future()
            self._gate.add(future)
            try:
                async with asyncio.timeout(self._limits.poll_every):
                    await future
            except TimeoutError:
                return 0
            finally:
                self._gate.discard(future)

    async def _sleep(self, pause: float) -> None:
        """Sleep, but wake when stopped."""
        future = self._loop.create_future()
        self._gate.add(future)
        try:
            async with asyncio.timeout(pause):
                while not self._stopping:
                    await asyncio.shield(future)
                    if not self._stopping:
                        self._gate.discard(future)
                        future = self._loop.create_future()
                        self._gate.add(future)
        except TimeoutError:
            pass
        finally:
            self._gate.discard(future)
