"""activemq: Apache ActiveMQ Classic and Amazon MQ, over STOMP 1.2; `activemq+ssl://` is the same over TLS.

Law: what a `unimsg.spi.Plugin` has, nothing else. No client library is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.activemq.capabilities import AMAZON_MQ, declare
from unimsg.backends.activemq.options import Options

if TYPE_CHECKING:
    from unimsg.backends.activemq.backend import ActiveMQBackend

SCHEMES = ("activemq", "activemq+ssl")
FACTS: Mapping[str, Any] = {
    "service": "Apache ActiveMQ Classic 5.18 and 5.19; Amazon MQ for ActiveMQ",
    "protocols": ("STOMP 1.2",),
    "pricing": "your own; Amazon MQ: broker hours and storage",
    "scaling": "one active broker; consumers of a group share its queue, message groups keep a key with one of them",
    "licence": "Apache-2.0",
    "amazon_mq": AMAZON_MQ,
}


def build(options: Options) -> ActiveMQBackend:
    """Return the backend of these options, without any I/O."""
    from unimsg.backends.activemq.backend import ActiveMQBackend  # noqa: PLC0415 - loaded when it is used

    return ActiveMQBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return the `unimsg.backends.activemq.stomp.Frame` that a delivery was made from."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
