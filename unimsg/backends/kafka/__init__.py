"""kafka: Apache Kafka and Amazon MSK; `kafka://host:port` names brokers, `msk://region/cluster` looks them up.

Law: what a `unimsg.spi.Plugin` has, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.kafka.capabilities import CLUSTERS, declare
from unimsg.backends.kafka.options import Options

if TYPE_CHECKING:
    from unimsg.backends.kafka.backend import KafkaBackend

SCHEMES = ("kafka", "msk")
FACTS: Mapping[str, Any] = {
    "service": "Apache Kafka 3.x and 4.x; Amazon MSK",
    "protocols": ("Kafka",),
    "pricing": "your own; MSK: broker hours and storage, or throughput on Serverless",
    "scaling": "partitions: members of a group share them, one partition feeds one member",
    "licence": "Apache-2.0",
    "msk": CLUSTERS,
}


def build(options: Options) -> KafkaBackend:
    """Return the backend of these options, without any I/O."""
    from unimsg.backends.kafka.backend import KafkaBackend  # noqa: PLC0415 - loads the client library

    return KafkaBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return the `aiokafka.ConsumerRecord` that a delivery was made from."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
