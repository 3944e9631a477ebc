"""What ActiveMQ Classic can do, as options leave it; what Amazon MQ limits.

Sources: the ActiveMQ Classic manual (https://activemq.apache.org/components/classic/documentation: stomp,
message-groups, virtual-destinations, delay-and-schedule-message-delivery), read 2026-11; held by the conformance suite
on ActiveMQ Classic 5.19.1. Amazon MQ: its developer guide, "Amazon MQ for ActiveMQ", read 2026-11; not run against AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimsg.backends.activemq.options import Options
from unimsg.capabilities import Capabilities

AMAZON_MQ: Mapping[str, Any] = {
    "versions": ("5.18", "5.19"),
    "max_message_bytes": "wireFormat.maxFrameSize of the broker's STOMP listener",
    "endpoint": "TLS only: activemq+ssl://…-1…:61614,…-2…:61614; of the two only the active one answers",
    "scheduler": "schedulerSupport in the broker's configuration",
    "order": "expireMessagesPeriod=0 in the policy: a look for the expired may let messages overtake",
    "replicas": "an active broker and a standby on shared storage",
    "connections": "2,000 for each protocol, 300 on micro",
    "source": "Amazon MQ developer guide, 2026-11",
}
"""What is known of the service; `Capabilities` are the same."""


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on with these options."""
    declared = Capabilities(
        ordering=options.ordering,
        groups=True,
        max_message_bytes=options.max_body,
        headers="native",
        delay="native",
        ttl=True,
        dead_letter="emulated",
        attempts="broker",
        durability="disk",
    )
    if options.priority:
        declared = declared.lower("option priority=true", ordering="none").lower("", priority=True)
    if options.is_ordered:  # a lane waits in memory with its head, so nobody else hears of its attempts
        declared = declared.lower("option ordering=key", attempts="process")
    if not options.scheduler:
        declared = declared.lower("option scheduler=false", delay="none", attempts="process")
    return declared
