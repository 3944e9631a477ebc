"""Receiver: what the broker pushes for one member of a group, on a connection of its own.

Law: what is delivered can be settled on the connection that delivered it and nowhere else. A retry is a delayed copy
whose receipt is awaited before the original is acked: a crash between the two makes a duplicate, never a loss. NACK is
never sent: it dead-letters at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from unimsg.backends._broker.copies import Copies
from unimsg.backends.activemq import trouble, wire
from unimsg.backends.activemq.connection import Answers, Connection, Endpoints
from unimsg.backends.activemq.options import Options
from unimsg.backends.activemq.stomp import Frame, escape
from unimsg.errors import AssignmentLostError, ClosedError, Error, OptionError, SettleError
from unimsg.spi import Assignment, Events, Received, ReceiveLimits, Settlement

MESSAGES = 500
"""Of one receive, and of one settle."""
IDLE = 1.0
"""Seconds without a message after which a queue counts as drained: the broker pushes at once what it has."""
SETTLING = 15.0
"""Seconds for an answer to acks; so long one settle waits for copies, and the next one waits on."""
MAX_DELAY = 365 * 86400.0


class ActiveMQReceiver:
    """The way out of the queue of one group."""

    def __init__(
        self,
        destination: str,
        group: str,
        endpoints: Endpoints,
        options: Options,
        events: Events,
        prefetch: int,
    ) -> None:
        if prefetch < 1:
            raise OptionError(
                "prefetch=0 would never give a message over STOMP: give 1 or more", backend=trouble.NAME
            )
        self._name = destination
        self._queue = wire.queue(destination, group)
        self._endpoints = endpoints
        self._options = options
        self._events = events
        self._copies = Copies(self._copy, trouble.NAME)
        self._prefetch = prefetch
        self._assignment = Assignment(f"{group}.{destination}")
        self._buffer: deque[Received] = deque()
        self._out: set[str] = set()
        """What was delivered here and is not settled, by its ack id."""
        self._connection: Connection | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._remembers = options.scheduler
        self._stopped = self._closed = False
        self.limits = ReceiveLimits(
            max_messages=MESSAGES,
            wait=options.wait,
            idle=IDLE,
            settle_messages=MESSAGES,
            settle_in_flight=2,
            retry="broker" if options.scheduler else "core",
            max_delay=MAX_DELAY,
            handback_keeps_order=False,
            release="close",
        )

    async def open(self) -> None:
        """Connect and subscribe."""
        self._connection = connection = await self._endpoints.connect(self._deliver, self._lost)
        self._events.assigned([self._assignment])
        told = {
            "id": "0",
            "destination": self._queue,
            "ack": "client-individual",
            "activemq.prefetchSize": str(self._prefetch),
        }
        if self._options.selector is not None:
            told["selector"] = self._options.selector
        try:
            await connection.ask("SUBSCRIBE", told, within=self._options.open_timeout)
        except BaseException:
            await self.aclose(abort=True)
            raise

    # ------------------------------------------------------------ in

    def _deliver(self, frame: Frame) -> None:
        message = wire.decode(frame, priority=self._options.priority)
        attempts, deliveries = wire.counts(frame)
        ordered = self._options.is_ordered and message.key is not None
        self._out.add(frame.headers["ack"])
        self._buffer.append(
            Received(
                message,
                frame,
                message.key if self._options.is_ordered else None,
                self._assignment,
                deliveries,
                attempts if self._remembers and not ordered else None,
                native=frame,
                first_failed=wire.first_failed(frame),
            )
        )
        self._wake()

    def _lost(self, error: Error) -> None:
        assignment = self._assignment
        if assignment.live:
            assignment.live = False
            self._events.lost([assignment])
        self._buffer.clear()
        self._out.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """See `unimsg.spi.Receiver`; safe to cancel: what came stays in the buffer."""
        deadline = self._loop.time() + wait
        while True:
            connection = self._connection
            if self._closed or connection is None:
                raise ClosedError("the receiver is closed", backend=trouble.NAME, destination=self._name)
            if connection.error is not None:
                raise connection.error
            if self._stopped or max_messages <= 0:
                return []
            if self._buffer:
                buffer = self._buffer
                return [buffer.popleft() for _ in range(min(max_messages, len(buffer)))]
            if self._loop.time() >= deadline:
                return []
            self._waiter = waiter = self._loop.create_future()
            timer = self._loop.call_at(deadline, self._wake)
            try:
                await waiter
            finally:
                timer.cancel()

    async def stop_intake(self) -> None:
        """Give nothing more; the broker pushes no more than prefetch, and gets it back when this is closed.

        An UNSUBSCRIBE would hand running messages to others and make their acks errors.
        """
        self._stopped = True
        self._wake()

    # ------------------------------------------------------------ out

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """See `unimsg.spi.Receiver`: the copies first, confirmed, then all acks with one receipt."""
        results: list[Error | None] = [self._refused(settlement) for settlement in settlements]
        copies = [at for at, s in enumerate(settlements) if s.verb == "retry" and results[at] is None]
        if copies:
            names = [settlements[at].token.headers["ack"] for at in copies]
            wanted = {name: settlements[at] for name, at in zip(names, copies, strict=True)}
            failures = await self._copies.write(wanted, SETTLING)
            for at, name in zip(copies, names, strict=True):
                results[at] = failures[name]
        settled = [at for at, error in enumerate(results) if error is None]
        if settled:
            error = await self._ack([settlements[at].token.headers["ack"] for at in settled])
            for at in settled:
                results[at] = error
        return results

    def _refused(self, settlement: Settlement) -> Error | None:
        if settlement.assignment is not self._assignment or not self._assignment.live:
            return _gone()
        if settlement.token.headers["ack"] not in self._out:
            return SettleError("this was settled before", backend=trouble.NAME)
        if settlement.verb == "release":
            return SettleError("what is delivered goes back only with its connection", backend=trouble.NAME)
        return None

    async def _copy(self, settlements: Sequence[Settlement]) -> Sequence[Error | None]:
        """Send a copy of each, outside a transaction; the end of the connection is the only end of the wait."""
        connection = self._connection
        if connection is None or connection.error is not None:
            raise _gone()
        answers = Answers(len(settlements))
        receipts: list[str] = []
        try:
            for at, settlement in enumerate(settlements):
                receipts.append(connection.expect(answers, at))
                await connection.write(self._again(settlement, receipts[-1]))
            await answers.done
        finally:
            connection.forget(receipts)
        lost = connection.error or _gone()
        return [lost if at in answers.open else answers.results[at] for at in range(len(settlements))]

    def _again(self, settlement: Settlement, receipt: str) -> bytes:
        frame: Frame = settlement.token
        lines = wire.copy(frame, self._queue, settlement)
        head = "\n".join((*lines, f"receipt:{receipt}", f"content-length:{len(frame.body)}\n\n"))
        return b"".join((head.encode("utf-8", "surrogateescape"), frame.body, b"\0"))

    async def _ack(self, ids: Sequence[str]) -> Error | None:
        """Ack these; the broker takes them in turn, so the receipt of the last is that of all."""
        connection = self._connection
        if connection is None or connection.error is not None:
            return _gone()
        answers = Answers(1)
        receipt = connection.expect(answers, 0)
        parts = [f"ACK\nid:{escape(each)}\n\n\0" for each in ids[:-1]]
        parts.append(f"ACK\nid:{escape(ids[-1])}\nreceipt:{receipt}\n\n\0")
        self._out.difference_update(ids)
        try:
            async with asyncio.timeout(SETTLING):
                await connection.write("".join(parts).encode())
                await answers.done
        except TimeoutError:
            return SettleError("no answer to an ack", backend=trouble.NAME)
        finally:
            connection.forget([receipt])
        if answers.open:
            return AssignmentLostError(
                "the connection ended before an ack was answered", backend=trouble.NAME
            )
        return answers.results[0]

    async def aclose(self, *, abort: bool = False) -> None:
        """Close the connection: what is not settled goes back, in order."""
        if self._closed:
            return
        self._closed = True
        self._assignment.live = False
        self._buffer.clear()
        self._wake()
        await self._copies.aclose()
        if self._connection is not None:
            await self._connection.aclose(abort=abort)


def _gone() -> Error:
    return AssignmentLostError("the connection that delivered this is gone", backend=trouble.NAME)
