"""Limiter: at most so many handler starts a second.

Law: knows the loop's clock only. A start is reserved before a delivery is taken, so nobody waits with one in hand.
"""

from __future__ import annotations

import asyncio


class Limiter:
    """Spaces starts evenly.

    Args:
        rate: starts a second.
    """

    __slots__ = ("_closed", "_interval", "_loop", "_next")

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self._loop = asyncio.get_running_loop()
        self._next = 0.0
        self._closed = self._loop.create_future()

    async def wait(self) -> None:
        """Return when one more may start; at once after `close`."""
        now = self._loop.time()
        start = max(now, self._next)
        self._next = start + self._interval
        if start > now and not self._closed.done():
            await asyncio.wait((self._closed,), timeout=start - now)

    def close(self) -> None:
        """Let everybody go."""
        if not self._closed.done():
            self._closed.set_result(None)
