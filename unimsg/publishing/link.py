"""Link: the sender of one destination: opened when first needed, and opened again when it is lost.

Law: owns the sender and the one task that opens it; knows nothing of messages. The first opening gives up on what is
permanent (credentials, no such destination, configuration); after it has worked once, nothing is permanent.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Protocol

from unimsg.errors import BackendError, ClosedError, ConfigError, Error
from unimsg.policies.backoff import backoff
from unimsg.spi import Sender

log = logging.getLogger("unimsg.publishing")

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
"""Seconds between two openings: the first wait, doubled after each failure, up to the longest."""
CLOSE_TIMEOUT = 5.0
"""Seconds for closing a sender that was lost."""


class Home(Protocol):
    """Who has the link."""

    def opened(self, sender: Sender, /) -> None:
        """A sender is there."""

    def failed(self, error: Error, /) -> None:
        """The opening has failed for good, for all who wait now."""

    def wanted(self) -> bool:
        """Whether anyone waits for the sender."""
        ...

    def delayed(self, error: Error, /) -> None:
        """The opening has failed and will be tried again."""


class Link:
    """The sender, while there is one."""

    sender: Sender | None = None

    def __init__(
        self,
        home: Home,
        *,
        name: str,
        open_sender: Callable[[], Awaitable[Sender]],
        ensure_open: Callable[[], Awaitable[None]],
        translate: Callable[[Exception], Error | None],
    ) -> None:
        self._home = home
        self._name = name
        self._open_sender = open_sender
        self._ensure_open = ensure_open
        self._translate = translate
        self._task: asyncio.Task[None] | None = None
        self._old: Sender | None = None
        self._worked = False
        self.reopened = 0

    def start(self) -> None:
        """Open, unless that is under way; the home is told."""
        if self._task is None and self.sender is None:
            self._task = asyncio.get_running_loop().create_task(
                self._open(), name=f"unimsg publisher {self._name}: open", context=Context()
            )

    def lose(self, sender: Sender) -> None:
        """This sender is of no further use: close it, and open another when one is wanted."""
        if self.sender is sender:
            self.sender, self._old = None, sender
            self.start()

    async def aclose(self, within: float) -> None:
        """Stop opening, and close the sender, each within that many seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=within)
        sender, self.sender = self.sender or self._old, None
        self._old = None
        if sender is not None:
            await self._close(sender, within)

    async def _open(self) -> None:
        try:
            tries = 0
            while True:
                if self._old is not None:
                    await self._close(self._old, CLOSE_TIMEOUT)
                    self._old = None
                error = await self._try()
                if error is None:
                    return
                tries += 1
                if self._is_final(error):
                    self._rest()
                    self._home.failed(error)
                    return
                self._home.delayed(error)
                if not self._home.wanted():
                    return
                wait = backoff(
                    tries,
                    initial=FIRST_WAIT,
                    factor=2.0,
                    max=LONGEST_WAIT,
                    jitter="equal",
                    random=random.random,
                )
                await asyncio.sleep(max(wait, error.retry_after or 0.0))
        finally:
            self._rest()

    def _is_final(self, error: Error) -> bool:
        if isinstance(error, (ClosedError, ConfigError)):
            return True
        return not self._worked and not (error.retryable and isinstance(error, BackendError))

    def _rest(self) -> None:
        if self._task is asyncio.current_task():
            self._task = None

    async def _try(self) -> Error | None:
        """Open once; returns why it failed."""
        try:
            await self._ensure_open()
            sender = await self._open_sender()
        except Exception as raised:  # noqa: BLE001 - told to all who wait
            error = raised if isinstance(raised, Error) else self._translate(raised)
            if error is None:
                error = Error(f"the sender cannot be opened: {type(raised).__name__}: {raised}")
            if error is not raised:
                error.__cause__ = raised
            log.warning("publisher %s: no sender: %s", self._name, error)
            return error
        self.sender = sender
        self.reopened += self._worked
        self._worked = True
        self._rest()
        self._home.opened(sender)
        return None

    async def _close(self, sender: Sender, within: float) -> None:
        closing = asyncio.get_running_loop().create_task(
            sender.aclose(), name=f"unimsg publisher {self._name}: close"
        )
        try:
            await asyncio.wait((closing,), timeout=within)
        finally:
            closing.cancel()
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            log.warning("publisher %s: its sender did not close cleanly: %s", self._name, error)
