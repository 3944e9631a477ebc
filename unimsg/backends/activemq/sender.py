"""Sender: messages into one virtual topic, on a connection of its own.

Law: sends once. Several messages go in one transaction, which is one write to the broker's disk; a delayed message goes
alone with a receipt, since a transaction can lose it (`SchedulerBroker`, ActiveMQ 5.19).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count

from unimsg.backends.activemq import trouble, wire
from unimsg.backends.activemq.connection import Answers, Connection, Endpoints
from unimsg.backends.activemq.directory import Directory, make
from unimsg.backends.activemq.options import Options
from unimsg.errors import (
    ClosedError,
    ConnectError,
    Error,
    OutcomeUnknownError,
    PermissionDeniedError,
    UnroutableError,
)
from unimsg.headers import DEAD_LETTER
from unimsg.message import Receipt, WireMessage
from unimsg.spi import SendLimits

MESSAGES = 100
"""Of one call, and so of one transaction."""
BYTES = 1 << 20
OPERATORS = "redrive"
"""The group with which dead letters are read: where it is not known who has a queue, it is given one first."""

_names = count(1)


class ActiveMQSender:
    """The way into one destination."""

    def __init__(self, name: str, endpoints: Endpoints, directory: Directory, options: Options) -> None:
        self._name = name
        self._topic = wire.topic(name)
        self._endpoints = endpoints
        self._directory = directory
        self._options = options
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._has_queue = self._closed = False
        lane: Callable[[WireMessage], str | None] = lambda message: message.key  # noqa: E731 - it needs its type
        self.limits = SendLimits(
            max_messages=MESSAGES,
            max_bytes=BYTES,
            in_flight=4,
            measure=wire.measure(options.max_body),
            lane=lane if options.is_ordered else lambda _message: None,
            linger=0.0,
        )

    async def open(self) -> None:
        """Connect to a destination that is there."""
        known = await self._directory.check(self._name)
        self._has_queue = known is not None and known.has_queue(self._name)
        await self._connected()

    async def _connected(self) -> Connection:
        """Return the connection, made anew after it was lost: one attempt."""
        async with self._lock:
            if self._closed:
                raise ClosedError("the sender is closed", backend=trouble.NAME, destination=self._name)
            if self._connection is None or self._connection.error is not None:
                connection = await self._endpoints.connect()
                if self._closed:  # while it was made
                    await connection.aclose(abort=True)
                    raise ClosedError("the sender is closed", backend=trouble.NAME, destination=self._name)
                self._connection = connection
            return self._connection

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Send once; see `unimsg.spi.Sender`."""
        try:
            connection = await self._connected()
            if not self._has_queue:
                await self._find_queue(connection, messages, deadline - self._loop.time())
        except (ClosedError, PermissionDeniedError):
            raise
        except UnroutableError as error:
            return [error] * len(messages)
        except Error as error:
            unsent = error if isinstance(error, ConnectError) else _unsent(error)
            return [unsent] * len(messages)
        if len(messages) > 1 and not any(message.delay for message in messages):
            return await self._together(connection, messages, deadline)
        return await self._each(connection, messages, deadline)

    async def _find_queue(
        self, connection: Connection, messages: Sequence[WireMessage], within: float
    ) -> None:
        """Make sure that somebody keeps what is sent: a topic confirms also what no group has a queue for.

        Where that is not known, dead letters at least are kept.
        """
        known = await self._directory.check(self._name)
        if known is not None and not known.has_queue(self._name):
            raise UnroutableError(
                "no group has a queue here, so nothing would be kept: provision a group", backend=trouble.NAME
            )
        if known is None and any(DEAD_LETTER in message.headers for message in messages):
            await make(connection, wire.queue(self._name, OPERATORS), within=within)
        elif known is None:
            return
        self._has_queue = True

    async def _each(
        self, connection: Connection, messages: Sequence[WireMessage], deadline: float
    ) -> Sequence[Receipt | Error]:
        """Send with a receipt for each."""
        answers = Answers(len(messages))
        receipts: list[str] = []
        try:
            async with asyncio.timeout_at(deadline):
                for index, message in enumerate(messages):
                    if connection.error is not None:
                        break
                    receipts.append(connection.expect(answers, index))
                    await connection.write(self._frame(message, f"receipt:{receipts[-1]}"))
                else:
                    await answers.done
        except TimeoutError:
            pass
        finally:
            connection.forget(receipts)
        return [
            self._unsent_or_unknown(connection, index < len(receipts))
            if index in answers.open
            else answers.results[index] or Receipt(message.id)
            for index, message in enumerate(messages)
        ]

    async def _together(
        self, connection: Connection, messages: Sequence[WireMessage], deadline: float
    ) -> Sequence[Receipt | Error]:
        """Send in one transaction: all or nothing."""
        name = f"t{next(_names)}"
        answers = Answers(1)
        receipt = connection.expect(answers, 0)
        parts = [f"BEGIN\ntransaction:{name}\n\n\0".encode()]
        parts += [self._frame(message, f"transaction:{name}") for message in messages]
        parts.append(f"COMMIT\ntransaction:{name}\nreceipt:{receipt}\n\n\0".encode())
        try:
            async with asyncio.timeout_at(deadline):
                await connection.write(b"".join(parts))
                await answers.done
        except TimeoutError:
            pass
        finally:
            connection.forget([receipt])
        if not answers.open and answers.results[0] is None:
            return [Receipt(message.id) for message in messages]
        return [self._unsent_or_unknown(connection, True)] * len(messages)  # noqa: FBT003 - it was written

    def _unsent_or_unknown(self, connection: Connection, written: bool) -> Error:  # noqa: FBT001 - a fact
        """Return what becomes of a message without an answer.

        A refusal of rights is certain for all: they go to one place, for one user.
        """
        error = connection.error
        if isinstance(error, PermissionDeniedError):
            return error
        if not written:
            return _unsent(error)
        why = error.sentence if error is not None else "the deadline passed"
        return OutcomeUnknownError(f"the message left and no answer came: {why}", backend=trouble.NAME)

    def _frame(self, message: WireMessage, line: str) -> bytes:
        body = message.body or b""
        lines = wire.encode(message, self._topic, grouped=self._options.is_ordered)
        head = "\n".join((*lines, line, f"content-length:{len(body)}\n\n"))
        return b"".join((head.encode("utf-8", "surrogateescape"), body, b"\0"))

    async def aclose(self) -> None:
        """Say goodbye."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()


def _unsent(error: Error | None) -> Error:
    why = error.sentence if error is not None else "the deadline passed"
    return ConnectError(f"nothing was sent: {why}", backend=trouble.NAME)
