"""Sender: messages into one queue, ten a call.

Law: one call for one batch, never a second; each entry has its own end. A failed entry of a FIFO queue must not be
overtaken by the next of its group, so a call holds one message of a group unless `strict_order=false`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from unimsg.backends._aws.calls import Calls
from unimsg.backends.sqs import entries, wire
from unimsg.backends.sqs.capabilities import BATCH, DELAY, LIMIT
from unimsg.backends.sqs.options import Options
from unimsg.errors import ClosedError, Error
from unimsg.message import Receipt, WireMessage
from unimsg.spi import SendLimits

IN_FLIGHT = 8


def send_limits(
    size: int,
    most: int,
    options: Any,  # noqa: ANN401 - of SQS or SNS
    *,
    delay: int,
    groups: bool = True,
) -> SendLimits:
    """Return what a sender keeps to.

    Args:
        size: of one message, in bytes.
        most: of one call, in bytes.
        options: of the backend.
        delay: the longest of one message, in seconds.
        groups: whether a key can be a message group where there is no order.
    """
    fifo = options.fifo
    return SendLimits(
        max_messages=BATCH,
        max_bytes=most,
        in_flight=IN_FLIGHT,
        measure=wire.measure(size, options.max_body, fifo=fifo, longest_delay=delay, groups=groups),
        lane=_key if fifo else _none,
        atomic_lane=not (fifo and options.strict_order),
    )


def _key(message: WireMessage) -> Hashable:
    return message.key


def _none(_message: WireMessage) -> Hashable:
    return None


class SqsSender:
    """The way into one queue."""

    def __init__(self, name: str, queue: str, size: int, calls: Calls, options: Options) -> None:
        self._name = name
        self._queue = queue
        self._calls = calls
        self._fifo = options.fifo
        self._content = options.dedup_by == "content"
        self._backend = options.scheme
        self._closed = False
        self.limits = send_limits(size, LIMIT, options, delay=0 if options.fifo else DELAY)

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Send once; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=self._backend, destination=self._name)
        fifo, content = self._fifo, self._content
        batch = [wire.encode(message, fifo=fifo, content=content) for message in messages]
        return await published(
            messages,
            lambda: self._calls("SendMessageBatch", {"QueueUrl": self._queue, "Entries": entries.ids(batch)}),
            self._backend,
            self._name,
        )

    async def aclose(self) -> None:
        """Nothing is kept open for one queue."""
        self._closed = True


async def published(
    messages: Sequence[WireMessage], call: Callable[[], Any], backend: str, destination: str
) -> Sequence[Receipt | Error]:
    """Make a call that publishes, and return the end of each message."""
    try:
        answer = await call()
    except Error as error:
        told = entries.publish_end(error)
        return [told] * len(messages)
    ends = entries.failures(answer, len(messages), backend)
    places = entries.places(answer, destination)
    return [
        Receipt(message.id, places.get(at)) if end is None else entries.publish_end(end)
        for at, (message, end) in enumerate(zip(messages, ends, strict=True))
    ]
