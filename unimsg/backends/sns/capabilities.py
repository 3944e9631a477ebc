"""What SNS can do, as options leave it, when its topics are read through queues of SQS.

Sources: SNS developer guide, "Amazon SNS endpoints and quotas" and "FIFO topics" (https://docs.aws.amazon.com/sns/latest/
dg/sns-fifo-topics.html), and the API reference, read 2026-11; the conformance suite on MiniStack 1.5.33, 2026-11. Not
run against AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimsg.backends.sns.options import Options
from unimsg.capabilities import Capabilities, Lease

LIMIT = 256 * 1024
"""Of a message with its attributes, and of a batch, unless the topic's `MaximumMessageSize` says more."""
RETENTION = 345_600.0
"""Seconds that the queue of a group keeps messages unless it is set to something else."""
LONGEST = 43_200
WINDOW = 300.0
"""Seconds in which a FIFO topic knows an id again."""

KINDS: Mapping[str, Mapping[str, Any]] = {
    "standard": {
        "groups": "12,500,000 subscriptions",
        "order": "none",
        "source": "SNS quotas, 2026-11",
    },
    "fifo": {
        "groups": "100 subscriptions",
        "order": "by message group, in queues that are FIFO too",
        "archive": "up to 365 days; replay is not built",
        "source": "SNS quotas, 2026-11",
    },
}
"""What is known of the two kinds of topics beyond what capabilities say."""


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on with these options, on a topic with default limits."""
    common = Capabilities(
        delivery="at_least_once",
        groups=True,
        retention=RETENTION,
        max_message_bytes=min(options.max_body, LIMIT),
        headers="native",
        dead_letter="native",
        lease=Lease(options.lease, longest=LONGEST),
        attempts="process",
        durability="replicated",
    )
    if not options.fifo:
        return common
    return common.lower("FIFO topics", ordering="key", dedup="window", dedup_window=WINDOW)
