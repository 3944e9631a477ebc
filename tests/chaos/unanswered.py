"""Acks that nobody answers: a completion is written down when the connection that carried its ack has lived on.

Law: only looks, as `witness`. On AMQP an ack is a frame and no question. One that was written shortly before its
connection ended may never have arrived, or was not stored before a kill: such a message is lost, not completed. The
ack of an original whose copy waits for its retry is one of them: then both come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from tests.chaos.ledger import Completed, Ledger, Lost, Retried
from unimsg.consuming.delivery import DROPPED
from unimsg.spi import Assignment


class Unanswered:
    """The acks of one link that do not count yet.

    Args:
        link: whose.
        ledger: where to.
        me: the process.
        patience: seconds for which a connection must live on until an ack on it counts.
    """

    def __init__(self, link: Any, ledger: Ledger, me: str, patience: float) -> None:
        self._ledger = ledger
        self._me = me
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._acked: deque[tuple[float, bool, Any]] = deque()
        self._lose, self._close = link.lost, link.aclose
        link.lost, link.aclose = self._lost, self._closed

    def acked(self, deliveries: Iterable[Any], *, final: bool) -> None:
        """These are acked, as far as the core knows; not `final`: and copies of them wait for a retry."""
        counts = self._loop.time() + self._patience
        self._acked.extend((counts, final, d) for d in deliveries if d._state != DROPPED)  # lost meanwhile
        self._loop.call_later(self._patience, self._count)

    def _count(self, until: float | None = None) -> None:
        until = self._loop.time() if until is None else until
        while self._acked and self._acked[0][0] <= until:
            _, final, delivery = self._acked.popleft()
            kind = Completed if final else Retried
            self._ledger.write(kind(self._me, delivery.id, delivery._seq))

    def _forget(self) -> None:
        self._count()
        while self._acked:
            delivery = self._acked.popleft()[-1]
            self._ledger.write(Lost(self._me, delivery.id, delivery._seq, "ack not answered"))

    def _lost(self, assignments: Sequence[Assignment], /) -> None:
        self._forget()
        self._lose(assignments)

    async def _closed(self, *, abort: bool) -> None:
        if abort:
            self._forget()
        await self._close(abort=abort)
        self._count(float("inf"))  # the server has taken everything before it says goodbye
