"""Options of `sqs://region` and `sqs+fifo://region`.

Law: data and what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unimsg.backends._aws.options import AwsOptions
from unimsg.options import Range, Seconds

FIFO = ".fifo"
"""With which the name of a FIFO queue ends."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(AwsOptions):
    """What a URL of this backend can say beside what every backend of AWS can; durations in seconds.

    Attributes:
        group: what the one group of a queue is called here; without it `group=` is refused.
        wait: how long a poll waits for a message, rounded up to whole seconds.
        lease: the visibility timeout of what is received, in whole seconds; it is extended while a handler runs.
        strict_order: FIFO: one message of a group in a call, so that one that fails is not overtaken by the next.
        dedup_by: FIFO: what the service compares, the id, or the body alone (the queue must be set so).
    """

    scheme: str = "sqs"
    group: str | None = None
    wait: Annotated[Seconds, Range(0.001, 20)] = 20.0
    lease: Annotated[Seconds, Range(1, 43200)] = 30.0
    strict_order: bool = True
    dedup_by: Literal["id", "content"] = "id"

    @property
    def fifo(self) -> bool:
        """Whether queues are FIFO queues."""
        return self.scheme.endswith("+fifo")
