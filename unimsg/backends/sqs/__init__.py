"""sqs: Amazon SQS; `sqs://region` are standard queues, `sqs+fifo://region` are FIFO queues.

Law: what a `unimsg.spi.Plugin` has, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.sqs.capabilities import KINDS, declare
from unimsg.backends.sqs.options import Options

if TYPE_CHECKING:
    from unimsg.backends.sqs.backend import SqsBackend

SCHEMES = ("sqs", "sqs+fifo")
FACTS: Mapping[str, Any] = {
    "service": "Amazon SQS",
    "protocols": ("AWS JSON 1.0",),
    "pricing": "for each request of up to 64 KiB: 0.3 a message where calls are full",
    "scaling": "nothing to do; FIFO: 300 calls a second, or high throughput by message group",
    "licence": "proprietary",
    "kinds": KINDS,
}


def build(options: Options) -> SqsBackend:
    """Return the backend of these options, without any I/O."""
    from unimsg.backends.sqs.backend import SqsBackend  # noqa: PLC0415 - loads the client library

    return SqsBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return the message as `ReceiveMessage` gave it: a dict with `MessageId`, `ReceiptHandle`, `Attributes`."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
