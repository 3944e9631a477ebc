"""What Kafka can do, as options leave it; what the kinds of Amazon MSK clusters limit.

Sources: Apache Kafka 4.4 documentation, topic and producer configuration (https://kafka.apache.org/documentation/),
and the conformance suite on Apache Kafka 4.4.0, 2026-11. MSK: the developer guide, "Amazon MSK quota" and "Serverless
limits" (https://docs.aws.amazon.com/msk/latest/developerguide/limits.html), read 2026-11; not run against AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimsg.backends.kafka.options import Options
from unimsg.capabilities import Capabilities

BATCH_LIMIT = 1_048_588
"""`max.message.bytes` of a topic that says nothing: of a whole batch as it is stored."""
ROOM = 1024
"""Of the limit, what is kept for the framing of a batch and a record, and for our own headers."""

CLUSTERS: Mapping[str, Mapping[str, Any]] = {
    "standard": {
        "max_message_bytes": "max.message.bytes of the topic",
        "throughput": "by broker type; 30 brokers a cluster with ZooKeeper, 60 with KRaft",
        "auth": ("iam", "scram", "mtls", "none"),
        "replicas": "2 or 3 availability zones",
        "source": "MSK developer guide, 2026-11",
    },
    "express": {
        "max_message_bytes": "not published",
        "throughput": "up to 500 MB/s in for each broker, 15 MB/s for each partition",
        "auth": ("iam", "scram", "mtls"),
        "replicas": "3, of which 2 must be in sync; fixed",
        "share_groups": False,
        "source": "MSK developer guide, 2026-11",
    },
    "serverless": {
        "max_message_bytes": 8_388_608,
        "throughput": "200 MB/s in and 400 out for each cluster, 5 and 10 for each partition",
        "partitions": 2400,
        "groups": 500,
        "auth": ("iam",),
        "retention": "7 days and 250 GiB for each partition unless set",
        "source": "MSK developer guide, Serverless limits, 2026-11",
    },
}
"""What is known of the kinds of MSK clusters; `Capabilities` are the same for all."""


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on with these options, on a topic with default limits."""
    declared = Capabilities(
        ordering="partition",
        delivery="at_least_once",
        groups=True,
        replay="time",
        max_message_bytes=min(options.max_body, BATCH_LIMIT - ROOM),
        headers="native",
        dead_letter="emulated",
        attempts="process",
        durability="replicated",
    )
    if options.acks == "1":
        declared = declared.lower("option acks=1", durability="disk")
    if options.acks == "0":
        declared = declared.lower("option acks=0", delivery="at_most_once", durability="memory")
    return declared


def refine(declared: Capabilities, brokers: int) -> Capabilities:
    """Return what holds on a cluster of so many brokers."""
    if brokers == 1 and declared.durability == "replicated":
        return declared.lower("a cluster of one broker", durability="disk")
    return declared
