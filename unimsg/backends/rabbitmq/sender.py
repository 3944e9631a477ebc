"""Sender: a batch of messages into one exchange, each confirmed on its own.

Law: batches are pipelined on one channel. With order there is one message of a key in flight, since a server can
refuse a single one and take the next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence

from unimsg.backends.rabbitmq import wire
from unimsg.backends.rabbitmq.connection import Connection
from unimsg.backends.rabbitmq.options import Options
from unimsg.backends.rabbitmq.outlet import Outlet, Parcel
from unimsg.backends.rabbitmq.trouble import NAME
from unimsg.errors import ClosedError, Error
from unimsg.message import Receipt, WireMessage
from unimsg.spi import SendLimits

MESSAGES, BATCH, IN_FLIGHT = 200, 1 << 20, 4
"""Of one call, its bytes, and calls at once: what the transport below may have to buffer, for it has no limit."""


class RabbitSender:
    """The way into one destination."""

    def __init__(
        self,
        destination: str,
        connection: Callable[[], Awaitable[Connection]],
        options: Options,
        limit: int,
    ) -> None:
        self._destination = destination
        self._outlet = Outlet(connection, destination, destination)
        self._closed = False
        self.limits = SendLimits(
            max_messages=MESSAGES,
            max_bytes=BATCH,
            in_flight=IN_FLIGHT,
            measure=wire.measure(limit),
            lane=_key if options.keeps_order else _none,
            atomic_lane=False,
            linger=0.0,
        )

    async def open(self) -> None:
        """Open the channel: one attempt."""
        await self._outlet.open()

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Publish each, and return when each is confirmed; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=NAME, destination=self._destination)
        parcels = [Parcel(*wire.encode(message), message.body or b"") for message in messages]
        return await self._outlet.send(parcels, deadline)

    async def aclose(self) -> None:
        """Close the channel; what is in flight becomes unknown."""
        self._closed = True
        await self._outlet.aclose()


def _key(message: WireMessage) -> Hashable:
    return message.key


def _none(_: WireMessage) -> Hashable:
    return None
