"""Options of `sns://region` and `sns+fifo://region`.

Law: data and what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unimsg.backends._aws.options import AwsOptions
from unimsg.errors import OptionError
from unimsg.options import Range, Seconds


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(AwsOptions):
    """What a URL of this backend can say beside what every backend of AWS can; durations in seconds.

    Attributes:
        queue: what the queue of a group is called.
        wait: how long a poll waits for a message, rounded up to whole seconds.
        lease: the visibility timeout of what is received, in whole seconds; it is extended while a handler runs.
        strict_order: FIFO: one message of a group in a call, so that one that fails is not overtaken by the next.
    """

    scheme: str = "sns"
    queue: str = "{destination}-{group}"
    wait: Annotated[Seconds, Range(0.001, 20)] = 20.0
    lease: Annotated[Seconds, Range(1, 43200)] = 30.0
    strict_order: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            named = self.queue.format(destination="d", group="g")
        except (KeyError, ValueError, IndexError):
            named = ""
        if "g" not in named:
            raise OptionError(
                f"queue={self.queue!r} is no template: it holds {{group}}, as in {{destination}}-{{group}}"
            )

    @property
    def fifo(self) -> bool:
        """Whether topics are FIFO topics."""
        return self.scheme.endswith("+fifo")
