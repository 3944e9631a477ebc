"""Receiver: messages out of one queue, by long polls, with leases that are visibility timeouts.

Law: a poll is never cancelled by us: SQS would go on serving it, and hide what it caught. A handle is good until the
next receipt of its message; twelve hours after the receipt no extension helps any more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from msgspec import Struct

from unimsg.backends._aws.calls import Answer, Calls, all_of
from unimsg.backends.sqs import entries, wire
from unimsg.backends.sqs.capabilities import BATCH, LONGEST
from unimsg.errors import (
    ClosedError,
    ConnectError,
    ConnectionLostError,
    Error,
    LeaseLostError,
    TimedOutError,
    UnavailableError,
)
from unimsg.message import Position
from unimsg.spi import Received, ReceiveLimits, Settlement

POLLS: Final = 4
"""At the same time at most, while answers come full."""
IDLE = 2.0
"""Seconds of an empty poll until a queue counts as drained: a long one asks all servers, a short one some."""
SYSTEM = ["ApproximateReceiveCount", "MessageGroupId", "SentTimestamp"]


class Handle(Struct, gc=False):
    """What settles one delivery.

    Attributes:
        receipt: the service's handle.
        born: when it was received, of the loop's time.
    """

    receipt: str
    born: float


class SqsReceiver:
    """One consumer of a queue."""

    def __init__(
        self, name: str, queue: str, calls: Calls, *, fifo: bool, wait: float, lease: float, backend: str
    ) -> None:
        self._name = name
        self._queue = queue
        self._calls = calls
        self._fifo = fifo
        self._lease = math.ceil(lease)
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._open_attempts: list[str] = []
        """Ids of polls whose answers were lost: asked for again, a FIFO queue gives the same messages."""
        self._stopped = self._closed = False
        self.limits = ReceiveLimits(
            max_messages=BATCH,
            wait=math.ceil(wait),
            in_flight=POLLS,
            cancel_safe=False,
            idle=min(IDLE, math.ceil(wait)),
            settle_messages=BATCH,
            settle_in_flight=POLLS,
            min_delay=1.0,
            max_delay=LONGEST - 3600.0,  # of the twelve hours one is left for the handler
            lease_covers_lane=fifo,
        )

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """One poll; see `unimsg.spi.Receiver`."""
        if self._closed:
            raise ClosedError("the receiver is closed", backend=self._backend, destination=self._name)
        if not max_messages or self._stopped:
            return ()
        seconds = math.ceil(wait)
        asked: dict[str, Any] = {
            "QueueUrl": self._queue,
            "MaxNumberOfMessages": min(max_messages, BATCH),
            "WaitTimeSeconds": seconds,
            "VisibilityTimeout": self._lease,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": SYSTEM,
        }
        answer = await self._polled(asked, seconds)
        now = self._loop.time()
        return [self._received(native, now) for native in answer.get("Messages") or ()]

    async def _polled(self, asked: dict[str, Any], seconds: int) -> Answer:
        attempt = ""
        if self._fifo:
            attempt = self._open_attempts.pop() if self._open_attempts else uuid4().hex
            asked["ReceiveRequestAttemptId"] = attempt
        try:
            return await self._calls("ReceiveMessage", asked, seconds)
        except (ConnectError, ConnectionLostError, TimedOutError) as error:
            if attempt:
                self._open_attempts.append(attempt)
            # What is in hand stays ours: a connection is nothing to SQS.
            raise UnavailableError(error.sentence, backend=self._backend, destination=self._name) from error

    def _received(self, native: dict[str, Any], now: float) -> Received:
        system = native.get("Attributes") or {}
        return Received(
            wire.decode(native),
            Handle(native["ReceiptHandle"], now),
            lane=system.get("MessageGroupId") if self._fifo else None,
            deliveries=int(system.get("ApproximateReceiveCount", 1)),
            lease_until=now + self._lease,
            position=Position(self._name, native["MessageId"]),
            native=native,
        )

    # ------------------------------------------------------------ settling

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Delete what is acked, change the visibility of the rest; see `unimsg.spi.Receiver`."""
        acked = [at for at, one in enumerate(settlements) if one.verb == "ack"]
        back = [at for at, one in enumerate(settlements) if one.verb != "ack"]
        deletes: list[dict[str, Any]] = [{"ReceiptHandle": settlements[at].token.receipt} for at in acked]
        changes: list[dict[str, Any]] = [
            {
                "ReceiptHandle": settlements[at].token.receipt,
                "VisibilityTimeout": math.ceil(settlements[at].delay),
            }
            for at in back
        ]
        ends: list[Error | None] = [None] * len(settlements)
        for at, end in zip(acked, await self._entries("DeleteMessageBatch", deletes), strict=True):
            ends[at] = end
        for at, end in zip(back, await self._entries("ChangeMessageVisibilityBatch", changes), strict=True):
            ends[at] = end
        return ends

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        """Prolong leases; see `unimsg.spi.Extends`."""
        now = self._loop.time()
        ends: list[Error | None] = [None] * len(tokens)
        asked: list[int] = []
        changes: list[dict[str, Any]] = []
        for at, token in enumerate(tokens):
            left = int(token.born + LONGEST - now)
            if left < 1:
                ends[at] = LeaseLostError(
                    f"{LONGEST} s after its receipt SQS extends no lease any more", backend=self._backend
                )
            else:
                asked.append(at)
                changes.append(
                    {"ReceiptHandle": token.receipt, "VisibilityTimeout": min(math.ceil(seconds), left)}
                )
        for at, end in zip(asked, await self._entries("ChangeMessageVisibilityBatch", changes), strict=True):
            ends[at] = end
        return ends

    async def _entries(self, operation: str, batch: list[dict[str, Any]]) -> list[Error | None]:
        """Make the calls for any number of entries, ten a call; one end for each entry."""
        parts = [entries.ids(batch[at : at + BATCH]) for at in range(0, len(batch), BATCH)]
        if not parts:
            return []
        answers = await all_of(
            [self._calls(operation, {"QueueUrl": self._queue, "Entries": part}) for part in parts]
        )
        ends: list[Error | None] = []
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, Error):
                ends += [answer] * len(part)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                failed = entries.failures(answer, len(part), self._backend)
                ends += [entries.settle_end(end) for end in failed]
        return ends

    # ------------------------------------------------------------ the end

    async def stop_intake(self) -> None:
        """Poll no more; the last poll has ended by now, it was not cancelled."""
        self._stopped = True

    async def aclose(self, *, abort: bool = False) -> None:
        """What is out comes again when its leases end."""
        self._closed = self._stopped = True
