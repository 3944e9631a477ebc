"""What SQS can do, as options leave it.

Sources: SQS developer guide, "Message quotas" and "FIFO queue quotas" (https://docs.aws.amazon.com/AWSSimpleQueueService/
latest/SQSDeveloperGuide/quotas-messages.html), and the API reference, read 2026-11; the conformance suite on MiniStack
1.5.33 and ElasticMQ 1.7.1, 2026-11. Not run against AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimsg.backends._aws.options import QueueOptions
from unimsg.backends.sqs.options import Options
from unimsg.capabilities import Capabilities, Lease

LIMIT = 1024 * 1024
"""Of a message with its attributes, and of a batch (since 2025-08); a queue may be set to less."""
BATCH = 10
"""Messages of one call, of every kind."""
DELAY = 900
"""Seconds that one message can be delayed, on a standard queue."""
LONGEST = 43_200
"""Seconds from its receipt that one message can be kept, all extensions together."""
RETENTION = 345_600.0
"""Seconds that a queue keeps messages unless it is set to something else (60 s to 14 days)."""
WINDOW = 300.0
"""Seconds in which a FIFO queue knows an id again."""

KINDS: Mapping[str, Mapping[str, Any]] = {
    "standard": {
        "in_flight": "about 120,000; beyond it OverLimit",
        "throughput": "nearly unlimited",
        "order": "none; a key becomes the message group: fair queues, no order",
        "source": "SQS developer guide, quotas, 2026-11",
    },
    "fifo": {
        "in_flight": "120,000; beyond it receives come back empty",
        "throughput": "300 calls a second for each kind; high throughput: by message group",
        "order": "by message group",
        "source": "SQS developer guide, FIFO quotas, 2026-11",
    },
}
"""What is known of the two kinds of queues beyond what capabilities say."""


def of_queue(options: QueueOptions, limit: int, **more: Any) -> Capabilities:  # noqa: ANN401 - by name of the field
    """Return what a program can rely on that reads from queues, whoever writes into them.

    Args:
        options: of the backend.
        limit: of one message, in bytes.
        **more: what the way in adds.
    """
    common = Capabilities(
        ordering="key",
        delivery="at_least_once",
        dedup="window",
        dedup_window=WINDOW,
        retention=RETENTION,
        max_message_bytes=min(options.max_body, limit),
        headers="native",
        dead_letter="native",
        lease=Lease(options.lease, longest=LONGEST),
        attempts="process",
        durability="replicated",
        **more,
    )
    if options.fifo:
        return common
    return common.lower("standard queues", ordering="none", dedup="none", dedup_window=None)


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on with these options, on a queue with default limits."""
    common = of_queue(options, LIMIT, delay="native")
    return common.lower("FIFO queues", delay="none") if options.fifo else common
