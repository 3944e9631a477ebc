"""Receiver: what a server pushes to one consumer, and how it is settled.

Law: pika's callback only puts a delivery into the buffer, which the prefetch bounds. A tag is good on the channel that
gave it and nowhere else: the assignment is the channel, and when it ends everything on it is lost at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any

from unimsg.backends._broker.copies import Copies
from unimsg.backends.rabbitmq import ladder, wire
from unimsg.backends.rabbitmq.acks import Acks
from unimsg.backends.rabbitmq.connection import Channel, Connection
from unimsg.backends.rabbitmq.options import Options
from unimsg.backends.rabbitmq.outlet import Outlet
from unimsg.backends.rabbitmq.trouble import NAME, reason
from unimsg.errors import AssignmentLostError, ClosedError, ConnectionLostError, Error, SettleError
from unimsg.spi import Assignment, Events, Received, ReceiveLimits, Settlement

MESSAGES = 500
"""Of one receive at most."""
SETTLING = 4
"""Calls at once: an ack does not wait for the confirm of a copy."""
PREFETCH = 65535
"""The most that AMQP can say."""
COPYING = 10.0
"""Seconds that one settle waits for the confirms of copies; the next one waits on."""
IDLE = 1.0
"""Seconds without a delivery after which a queue counts as empty, if the server does not say so before."""
QUIET = 0.1
"""Seconds without a delivery after which it is asked, where no more than `IDLE` is to be waited."""
_generations = count(1)


class RabbitReceiver:
    """One consumer, on a connection of its own.

    Args:
        queue: what it consumes.
        connection: for this receiver alone; closing it gives back what is not settled.
        outlet: where copies wait for their retry; None: there is no such place, retries wait in memory.
    """

    def __init__(
        self,
        queue: str,
        connection: Connection,
        channel: Channel,
        outlet: Outlet | None,
        options: Options,
        events: Events,
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._channel = channel
        self._outlet = outlet
        self._copies = Copies(self._copy, NAME)
        self._events = events
        self._ack = channel.native.basic_ack
        self._nack = channel.native.basic_nack
        self._tag: str | None = None
        self._assignment = Assignment(f"{queue}#{next(_generations)}")
        self._buffer: deque[int] = deque()
        self._acks: Acks[tuple[Any, Any, bytes]] = Acks()
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._why = "the connection is lost"
        self._stopped = self._closed = False
        keeps_order = options.keeps_order
        self.limits = ReceiveLimits(
            max_messages=MESSAGES,
            wait=options.wait,
            idle=IDLE,
            settle_messages=MESSAGES,
            settle_in_flight=SETTLING,
            retry="core" if outlet is None else "broker",
            max_delay=ladder.LONGEST,
            handback_keeps_order=False,
            intake_ends="after_drain" if keeps_order else "first",
            release="close" if keeps_order else "settle",
        )

    async def open(self, prefetch: int) -> None:
        """Begin to consume."""
        channel = self._channel
        channel.on_close = lambda error: self._lose(reason(error))
        channel.native.add_on_cancel_callback(lambda _: self._lose("the queue was deleted or has moved"))
        self._events.assigned([self._assignment])
        await channel.ask("basic_qos", prefetch_count=max(1, min(prefetch, PREFETCH)))
        answer = await channel.ask("basic_consume", self._queue, self._on_message)
        self._tag = answer.method.consumer_tag

    # ------------------------------------------------------------ in

    def _on_message(self, _: object, method: Any, properties: Any, body: bytes) -> None:  # noqa: ANN401 - pika's
        if self._closed:
            return
        tag = method.delivery_tag
        self._acks.delivered(tag, (method, properties, body))
        self._buffer.append(tag)
        self._ring()

    def _ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self, why: str) -> None:
        """Everything on the channel is lost: the server gives it to the next consumer, or to us on another one."""
        if not self._assignment.live:
            return
        self._assignment.live = False
        self._why = why
        self._buffer.clear()
        self._acks = Acks()
        self._copies.drop()
        if not self._closed:
            self._events.lost([self._assignment])
        self._ring()

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """Drain the buffer, and wait for it to fill; a short wait ends when the server says that there is nothing."""
        deadline = self._loop.time() + wait
        doubts = 0 < wait <= IDLE
        while True:
            if self._closed:
                raise ClosedError("the receiver is closed", backend=NAME, destination=self._queue)
            if not self._assignment.live:
                raise ConnectionLostError(self._why, backend=NAME, destination=self._queue)
            if self._buffer and max_messages:
                return self._taken(min(max_messages, MESSAGES, len(self._buffer)))
            if self._stopped or self._loop.time() >= deadline:
                return []
            await self._wake(min(deadline, self._loop.time() + QUIET) if doubts else deadline)
            if doubts and not self._buffer and self._assignment.live:
                doubts = False
                if await self.lag() == 0 and not self._buffer:
                    return []

    async def _wake(self, deadline: float) -> None:
        """Return when there is something to look at, at `deadline` at the latest."""
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._ring)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _taken(self, number: int) -> list[Received]:
        taken, assignment, acks, take = [], self._assignment, self._acks, self._buffer.popleft
        decode, counts = wire.decode, wire.counts
        for _ in range(number):
            tag = take()
            raw = acks[tag]
            method, properties, body = raw
            message = decode(method.exchange, method.routing_key, properties, body)
            attempts, deliveries, first_failed = 0, 1, None
            if method.redelivered or properties.headers:
                attempts, deliveries = counts(properties, redelivered=method.redelivered)
                first_failed = wire.first_failed(properties)
            received = Received(
                message,
                tag,
                message.key,
                assignment,
                deliveries,
                attempts or None,
                native=raw,
                first_failed=first_failed,
            )
            taken.append(received)
        return taken

    async def stop_intake(self) -> None:
        """Cancel the consumer; what is out stays on this channel."""
        if self._stopped or not self._assignment.live:
            return
        self._stopped = True
        self._ring()
        if self._tag is not None:
            await self._channel.ask("basic_cancel", self._tag)

    async def lag(self) -> int | None:
        """How many messages wait in the queue."""
        answer = await self._channel.ask("queue_declare", queue=self._queue, passive=True)
        return int(answer.method.message_count)

    # ------------------------------------------------------------ out

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Settle on this channel; what another one delivered is not ours to settle."""
        results: list[Error | None] = [None] * len(settlements)
        acks: list[int] = []
        retries: list[int] = []
        seen: set[int] = set()
        for at, settlement in enumerate(settlements):
            tag, verb = settlement.token, settlement.verb
            if not self._is_ours(settlement) or tag in seen:
                results[at] = AssignmentLostError(f"{self._queue}: {self._why}", backend=NAME)
                continue
            seen.add(tag)
            if verb == "ack":
                acks.append(tag)
            elif verb == "retry":
                retries.append(at)
            else:
                self._give_back(tag)
        self._write(acks)
        if retries:
            await self._retry(settlements, retries, results)
        return results

    def _is_ours(self, settlement: Settlement) -> bool:
        assignment = self._assignment
        return settlement.assignment is assignment and assignment.live and settlement.token in self._acks

    def _write(self, tags: Sequence[int]) -> None:
        """Ack these; when the channel ends meanwhile they come again, as everything on it does."""
        for tag, multiple in self._acks.done(tags):
            self._ack(tag, multiple)

    def _give_back(self, tag: int) -> None:
        self._acks.done((tag,))
        self._nack(tag, requeue=True)

    async def _retry(
        self, settlements: Sequence[Settlement], retries: Sequence[int], results: list[Error | None]
    ) -> None:
        """Publish copies that wait, and ack the originals of those that are confirmed."""
        outcomes = await self._copies.write(
            {settlements[at].token: settlements[at] for at in retries}, COPYING
        )
        copied: list[int] = []
        for at in retries:
            tag = settlements[at].token
            outcome = outcomes[tag]
            if not self._is_ours(settlements[at]):
                results[at] = AssignmentLostError(f"{self._queue}: {self._why}", backend=NAME)
            elif outcome is None:
                copied.append(tag)
            else:
                results[at] = outcome
                if not outcome.retryable:
                    self._give_back(tag)
        self._write(copied)

    async def _copy(self, settlements: Sequence[Settlement]) -> Sequence[Error | None]:
        """Publish a copy of each; the end of the connection is the only end of the wait for its confirm."""
        if self._outlet is None:
            raise SettleError("there is no retry ladder: provision it", backend=NAME)
        parcels = [ladder.copy(self._queue, self._acks[each.token], each) for each in settlements]
        outcomes = await self._outlet.send(parcels, None)
        return [outcome if isinstance(outcome, Error) else None for outcome in outcomes]

    async def aclose(self, *, abort: bool = False) -> None:
        """Close the connection: everything that is not settled goes back, in order."""
        if self._closed:
            return
        self._closed = True
        self._assignment.live = False
        self._ring()
        await self._copies.aclose()
        if self._outlet is not None and not abort:
            await self._outlet.aclose()
        await self._connection.aclose(abort=abort)
