"""Outlet: one channel for publishing, with confirms; replaced when it ends, as is its connection.

Law: every message that has a deadline has an outcome by then. Nothing is published while the server says that it is
blocked. A channel on which something was not confirmed in time is given up: what it still says would be about the past.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from pika import BasicProperties
from pika.exceptions import AMQPError
from pika.spec import Basic

from unimsg.backends.rabbitmq import wire
from unimsg.backends.rabbitmq.confirms import Batch, Confirms, Outcome
from unimsg.backends.rabbitmq.connection import Channel, Connection
from unimsg.backends.rabbitmq.trouble import NAME, refusal, translate
from unimsg.errors import ConnectError, Error, NotSentError, RejectedError

SOONER = 0.05
"""Seconds before its deadline when what waits is given back: at the deadline it would be called unknown."""

LARGE = 256 * 1024
"""Bytes that are written in one turn of the loop; what is more waits for the next one."""


class Parcel(NamedTuple):
    """A message as it goes out; the properties may get a header more."""

    routing_key: str
    properties: dict[str, Any]
    body: bytes


class Outlet:
    """The way into one exchange.

    Args:
        connection: gives the connection for publishing, opened anew after it was lost.
        exchange: where to; it must exist.
        destination: what it is called in errors.
    """

    def __init__(
        self, connection: Callable[[], Awaitable[Connection]], exchange: str, destination: str
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._destination = destination
        self._line: _Line | None = None
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Open the channel: one attempt.

        Raises:
            AMQPError: the exchange does not exist, or the connection failed.
        """
        await self._current()

    async def _current(self) -> _Line:
        line = self._line
        if line is None or not line.live:
            async with self._opening:
                line = self._line
                if line is None or not line.live:
                    self._line = line = await self._new()
        return line

    async def _new(self) -> _Line:
        connection = await self._connection()
        while (
            not connection.flows.is_set()
        ):  # a blocked connection answers nothing, not even that a channel is open
            await connection.flows.wait()
            connection = await self._connection()
        channel = await connection.channel()
        await channel.ask("exchange_declare", exchange=self._exchange, passive=True)
        line = _Line(connection, channel, Confirms(self._destination))
        await channel.ask("confirm_delivery", line.confirmed)
        return line

    async def send(self, parcels: Sequence[Parcel], deadline: float | None) -> Sequence[Outcome]:
        """Publish once; one outcome for each, in order, at `deadline` at the latest; None: when the server has said."""
        try:
            async with asyncio.timeout_at(None if deadline is None else deadline - SOONER):
                line = await self._current()
                while not line.connection.flows.is_set():
                    await line.connection.flows.wait()
                    line = await self._current()
        except TimeoutError:
            told: Error = NotSentError("the server takes no publishes now, or no node answers", backend=NAME)
            return [told] * len(parcels)
        except (AMQPError, OSError, Error) as error:
            told = error if isinstance(error, Error) else translate(error) or ConnectError(str(error))
            told.destination = self._destination
            return [told] * len(parcels)
        batch = Batch(len(parcels))
        if sum(len(parcel.body) for parcel in parcels) < LARGE:
            for at, parcel in enumerate(parcels):
                line.publish(self._exchange, parcel, batch, at)
        else:
            await self._publish_slowly(line, parcels, batch)
        if not batch.settled.done():
            try:
                async with asyncio.timeout_at(deadline):
                    await batch.settled
            except TimeoutError:
                self._give_up(line)
        return batch.results()

    async def _publish_slowly(self, line: _Line, parcels: Sequence[Parcel], batch: Batch) -> None:
        """Write what is large in turns of its own: a copy of megabytes would hold the loop up."""
        async with self._turn:
            written = 0
            for at, parcel in enumerate(parcels):
                line.publish(self._exchange, parcel, batch, at)
                written += len(parcel.body)
                if written >= LARGE:
                    written = 0
                    await asyncio.sleep(0)

    def _give_up(self, line: _Line) -> None:
        if self._line is line:
            self._line = None
        line.end("it was not confirmed in time")

    async def aclose(self) -> None:
        """Close the channel; what is in flight becomes unknown."""
        line, self._line = self._line, None
        if line is not None:
            await line.channel.aclose()
            line.confirms.lost("the sender was closed")


class _Line:
    """One channel and what is in flight on it."""

    def __init__(self, connection: Connection, channel: Channel, confirms: Confirms) -> None:
        self.connection = connection
        self.channel = channel
        self.confirms = confirms
        channel.on_close = lambda error: confirms.lost(str(error), refusal(error))
        channel.native.add_on_return_callback(self._on_return)

    @property
    def live(self) -> bool:
        """Whether it can be used."""
        return self.channel.error is None and self.connection.live

    def publish(self, exchange: str, parcel: Parcel, batch: Batch, at: int) -> None:
        """Write one message; what cannot be written has its outcome at once."""
        properties = parcel.properties
        name = self.confirms.name(properties.get("message_id"))
        if name[1]:
            properties["headers"] = {**properties.get("headers", {}), wire.COPY: name[1]}
        try:
            self.channel.native.basic_publish(
                exchange, parcel.routing_key, parcel.body, BasicProperties(**properties), mandatory=True
            )
        except AMQPError as error:
            ended = not self.live
            kind = ConnectError if ended else RejectedError
            batch.settle(at, kind(f"it could not be written: {error!r}", backend=NAME))
        else:
            self.confirms.sent(batch, at, name)

    def confirmed(self, frame: Any) -> None:  # noqa: ANN401 - pika's
        """Basic.Ack or Basic.Nack came."""
        method = frame.method
        accepted = isinstance(method, Basic.Ack)
        self.confirms.confirmed(method.delivery_tag, multiple=method.multiple, accepted=accepted)

    def _on_return(self, _: object, method: Any, properties: Any, __: object) -> None:  # noqa: ANN401 - pika's
        copy = (properties.headers or {}).get(wire.COPY, 0)
        self.confirms.returned((properties.message_id, copy), method.reply_text)

    def end(self, why: str) -> None:
        """Give the channel up."""
        self.confirms.lost(why)
        if self.channel.error is None and self.channel.native.is_open:
            self.channel.native.close()
