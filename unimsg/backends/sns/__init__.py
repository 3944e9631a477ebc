"""sns: Amazon SNS; `sns://region` are standard topics, `sns+fifo://region` are FIFO topics; groups are queues of SQS.

Law: what a `unimsg.spi.Plugin` has, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.sns.capabilities import KINDS, declare
from unimsg.backends.sns.options import Options

if TYPE_CHECKING:
    from unimsg.backends.sns.backend import SnsBackend

SCHEMES = ("sns", "sns+fifo")
FACTS: Mapping[str, Any] = {
    "service": "Amazon SNS, read through Amazon SQS",
    "protocols": ("AWS Query", "AWS JSON 1.0"),
    "pricing": "for each publish of up to 64 KiB; delivery to SQS is free on standard topics, its requests are not",
    "scaling": "nothing to do; FIFO topics: by account and region, or by message group",
    "licence": "proprietary",
    "kinds": KINDS,
}


def build(options: Options) -> SnsBackend:
    """Return the backend of these options, without any I/O."""
    from unimsg.backends.sns.backend import SnsBackend  # noqa: PLC0415 - loads the client library

    return SnsBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return the message as `ReceiveMessage` of the group's queue gave it: a dict."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
