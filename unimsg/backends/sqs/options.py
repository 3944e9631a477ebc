"""Options of `sqs://region` and `sqs+fifo://region`.

Law: data and what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unimsg.backends._aws.options import QueueOptions

FIFO = ".fifo"
"""With which the name of a FIFO queue ends."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(QueueOptions):
    """What a URL of this backend can say beside what every backend of AWS can; durations in seconds.

    Attributes:
        group: what the one group of a queue is called here; without it `group=` is refused.
        dedup_by: FIFO: what the service compares, the id, or the body alone (the queue must be set so).
    """

    scheme: str = "sqs"
    group: str | None = None
    dedup_by: Literal["id", "content"] = "id"

    @property
    def only_group(self) -> str | None:
        """A queue is one group; whoever says which may ask for it by name."""
        return self.group
