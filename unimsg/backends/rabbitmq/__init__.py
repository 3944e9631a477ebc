"""rabbitmq: RabbitMQ and Amazon MQ for RabbitMQ over AMQP 0-9-1; `amqp://host/vhost`, `amqps://host/vhost`.

Law: what a `unimsg.spi.Plugin` has, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.rabbitmq.capabilities import AMAZON_MQ, declare
from unimsg.backends.rabbitmq.options import Options

if TYPE_CHECKING:
    from unimsg.backends.rabbitmq.backend import RabbitBackend

SCHEMES = ("amqp", "amqps")
FACTS: Mapping[str, Any] = {
    "service": "RabbitMQ 3.13 and 4.x; Amazon MQ for RabbitMQ",
    "protocols": ("AMQP 0-9-1",),
    "pricing": "your own; Amazon MQ: broker hours and storage, a cluster counts three times",
    "scaling": "consumers share a queue; with order one of them is active and the others stand by",
    "licence": "MPL-2.0",
    "amazon-mq": AMAZON_MQ,
}


def build(options: Options) -> RabbitBackend:
    """Return the backend of these options, without any I/O."""
    from unimsg.backends.rabbitmq.backend import RabbitBackend  # noqa: PLC0415 - loads the client library

    return RabbitBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return what pika gave: `Basic.Deliver`, `BasicProperties`, body."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
