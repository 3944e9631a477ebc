"""What RabbitMQ can do, as options leave it; what a server's version and Amazon MQ limit.

Sources: the RabbitMQ guides (https://www.rabbitmq.com/docs: quorum-queues, consumers, ttl, priority, dlx), read
2026-11, and the conformance suite on RabbitMQ 4.0.5, quorum and classic, 2026-11. Amazon MQ: its developer guide,
"Amazon MQ for RabbitMQ" (https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/), read 2026-11; not run on AWS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unimsg.backends.rabbitmq.options import Options
from unimsg.capabilities import Capabilities

BODY_LIMIT = 16 * 1024 * 1024
"""`max_message_size` of a 4.x server that says nothing: of the body alone."""
TTL_ON_QUORUM = (3, 10)
"""Since this version a quorum queue knows the ttl of a message."""
UNLIMITED = (4, 0)
"""Since this version a quorum queue has a delivery limit unless -1 takes it away."""
DELIVERY_LIMIT = 20
"""The limit that it has then."""

AMAZON_MQ: Mapping[str, Any] = {
    "versions": ("3.13", "4.2", "4.3"),
    "max_message_bytes": "max_message_size of the broker, 128 MiB at most",
    "endpoint": "one name, TLS only: amqps://…:5671",
    "refuses": ("MQTT", "STOMP", "streams", "transient queues that are not exclusive (4.3)"),
    "consumer_timeout": "30 minutes: a delivery that is older closes its channel",
    "replicas": "3 zones in a cluster deployment",
    "source": "Amazon MQ developer guide, 2026-11",
}
"""What is known of the service; `Capabilities` are the same."""


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on with these options.

    Durability is a disk: whether a quorum queue has members on other nodes, the protocol does not tell.
    """
    declared = Capabilities(
        ordering=options.ordering,
        groups=True,
        max_message_bytes=min(options.max_body, BODY_LIMIT),
        headers="native",
        ttl=True,
        priority=options.priority,
        dead_letter="emulated",
        attempts="broker",
        durability="disk",
    )
    if options.priority:
        return declared.lower("option priority=true", ordering="none")
    if options.keeps_order:  # a lane waits in memory with its head, so nobody else hears of its attempts
        return declared.lower("option ordering=key", attempts="process")
    return declared


def refine(
    declared: Capabilities, kind: str, version: tuple[int, ...], *, durable: bool = True
) -> Capabilities:
    """Return what holds of queues of this kind on a server of this version; empty: it did not say."""
    if kind == "quorum" and version and version < TTL_ON_QUORUM:
        declared = declared.lower(f"RabbitMQ {'.'.join(map(str, version))}", ttl=False)
    if kind != "classic" and declared.priority:
        declared = declared.lower(f"a {kind} queue", priority=False)
    return declared if durable else declared.lower("a queue that is not durable", durability="memory")


def version_of(properties: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the version that a server tells of itself; empty: none that can be read, or another product."""
    if properties.get("product") != "RabbitMQ":
        return ()
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(properties.get("version", "")))
    return tuple(int(part) for part in found.groups() if part is not None) if found else ()
