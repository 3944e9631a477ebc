"""ManualClock: time stands still until a test moves it.

Law: turns the clock of one running asyncio loop, so that everything which asks `loop.time()`, `call_later`, `sleep` or
`timeout` follows; knows nothing of unimsg. The calendar (`time.time()`) is not touched, and threads and other
processes live in real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from unimsg.errors import ConfigError
from unimsg.units import Duration

ROUNDS = 100_000
"""Turns of the loop after which `settle` gives up: something keeps itself busy."""


class ManualClock:
    """Replaces the time of the running loop: timers fire when `advance` passes them, in their order.

    Use it as `async with ManualClock() as clock`, around everything that reads the time.

    Args:
        auto: whenever nothing else can run, time jumps to the next timer by itself: waiting costs nothing, and what
            would last hours ends at once. Not for programs that wait for threads or sockets meanwhile.
    """

    def __init__(self, *, auto: bool = False) -> None:
        self._auto = auto
        self._now = 0.0
        self._loop: Any = None
        self._select: Callable[[float | None], Any] | None = None

    def time(self) -> float:
        """Return what `loop.time()` returns."""
        return self._now

    async def __aenter__(self) -> Self:
        loop: Any = asyncio.get_running_loop()
        if not hasattr(loop, "_scheduled") or not hasattr(loop, "_ready"):
            raise ConfigError(
                f"ManualClock turns asyncio's own loops, not {type(loop).__name__}: run the test on one of those"
            )
        if "time" in vars(loop):
            raise ConfigError("this loop has a ManualClock already: use one at a time")
        self._now = loop.time()
        self._loop = loop
        loop.time = self.time
        if self._auto:
            self._select = loop._selector.select  # noqa: SLF001 - the one place where a loop waits
            loop._selector.select = self._jump  # noqa: SLF001 - as above
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._loop.time
        if self._select is not None:
            del self._loop._selector.select  # noqa: SLF001 - back to the class's own
            self._select = None

    async def advance(self, seconds: Duration) -> None:
        """Let time pass: every timer up to then fires in its order, and what it starts runs before the next one.

        Args:
            seconds: how long, from 0 on.

        Raises:
            ValueError: time does not run backwards.
        """
        step = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if step < 0:
            raise ValueError(f"advance({step}): time does not run backwards")
        target = self._now + step
        await self.settle()
        while (when := self._next()) is not None and when <= target:
            self._now = max(self._now, when)
            await self.settle()
        self._now = max(self._now, target)
        await self.settle()

    async def settle(self) -> None:
        """Return when nothing can run any more without time passing.

        Raises:
            RuntimeError: something keeps itself busy without ever waiting.
        """
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            if not self._loop._ready and not self._due():  # noqa: SLF001 - what a loop still has to do
                return
        raise RuntimeError(
            f"the loop did not come to rest in {ROUNDS} turns: something spins without waiting"
        )

    def _due(self) -> bool:
        when = self._next()
        return when is not None and when <= self._now

    def _next(self) -> float | None:
        waiting = self._loop._scheduled  # noqa: SLF001 - the timers of a loop, a heap
        return min((handle.when() for handle in waiting if not handle.cancelled()), default=None)

    def _jump(self, timeout: float | None) -> Any:
        """Instead of waiting: let time pass at once, unless input and output are ready."""
        if self._select is None or not timeout:
            return self._select(timeout) if self._select is not None else []
        ready = self._select(0)
        if not ready:
            self._now += timeout
        return ready
