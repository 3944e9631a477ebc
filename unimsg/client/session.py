"""Session: a backend that is opened at first use, by one bounded attempt at a time, in one event loop.

Law: knows the seam and the needs; nothing of publishers, subscribers or what they are for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from unimsg import registry
from unimsg.capabilities import Needs, check
from unimsg.errors import ClosedError, ConfigError, ConnectError, Error, OptionError, TimedOutError
from unimsg.options import Options
from unimsg.spi import Backend

log = logging.getLogger("unimsg.client")

R = TypeVar("R")


class Session:
    """One backend of one client.

    Attributes:
        opened, closed: how far it is.
    """

    def __init__(self, backend: Backend, options: Options, needs: Needs | None) -> None:
        self.backend = backend
        self.name = options.scheme
        self.opened = False
        self.closed = False
        self._options = options
        self._needs = needs
        self._lock: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def refuse_when_closed(self) -> None:
        """Raise ClosedError once it is closed."""
        if self.closed:
            raise ClosedError("the client is closed: connect again", backend=self.name)

    def check_destination(self, destination: str) -> None:
        """Refuse what cannot be the name of a destination, and everything once it is closed."""
        self.refuse_when_closed()
        if not (isinstance(destination, str) and destination):
            raise OptionError(f"destination={destination!r} is not accepted: give a name", backend=self.name)

    async def ensure_open(self) -> None:
        """Open the backend if that was not done; one attempt at a time.

        Raises:
            ClosedError: it was closed.
            ConfigError: this is another event loop than the first.
            Error: it cannot be opened, or what is in effect does not meet the needs.
        """
        if self.opened and not self.closed and self._loop is asyncio.get_running_loop():
            return
        self._check_usable()
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self.opened:
                return
            await self.bounded(self.backend.open, "open")
            check(self._needs, self.backend.capabilities, backend=self.name, others=registry.declared)
            self.opened = True
            log.info("%s: open", self.name)

    def _check_usable(self) -> None:
        self.refuse_when_closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigError(
                "a client belongs to the event loop that used it first: connect one for each loop"
            )

    async def bounded(
        self, attempt: Callable[[], Awaitable[R]], what: str, destination: str | None = None
    ) -> R:
        """One attempt, in the time that options give, its errors ours."""
        try:
            async with asyncio.timeout(self._options.open_timeout):
                return await attempt()
        except Error:
            raise
        except TimeoutError as error:
            raise TimedOutError(
                f"{what} took longer than open_timeout={self._options.open_timeout:g} s",
                backend=self.name,
                destination=destination,
            ) from error
        except Exception as error:
            ours = self.backend.translate(error)
            if ours is None and isinstance(error, OSError):
                ours = ConnectError(f"{what} failed: {error}", backend=self.name, destination=destination)
            if ours is None:
                raise
            raise ours from error

    async def aclose(self) -> None:
        """Close the backend, if anything was ever asked of it; one that does not answer is given up.

        By then everything is settled, confirmed or given up: what cannot be closed costs nobody a message.
        """
        if self._loop is not None:
            try:
                await self.bounded(self.backend.aclose, "close")
            except Error as error:
                log.warning("%s: not closed in order: %s", self.name, error)
        log.info("%s: closed", self.name)
