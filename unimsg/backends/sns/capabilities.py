"""What SNS can do, as options leave it, when its topics are read through queues of SQS.

Sources: SNS developer guide, "Amazon SNS endpoints and quotas" and "FIFO topics" (https://docs.aws.amazon.com/sns/latest/
dg/sns-fifo-topics.html), and the API reference, read 2026-11; the conformance suite on MiniStack 1.5.33, 2026-11. Not
run against AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimsg.backends.sns.options import Options
from unimsg.backends.sqs.capabilities import of_queue
from unimsg.capabilities import Capabilities

LIMIT = 256 * 1024
"""Of a message with its attributes, and of a batch, unless the topic's `MaximumMessageSize` says more."""

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
    return of_queue(options, LIMIT, groups=True)
