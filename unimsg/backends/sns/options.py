"""Options of `sns://region` and `sns+fifo://region`.

Law: data and what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from unimsg.backends._aws.options import QueueOptions
from unimsg.errors import OptionError


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(QueueOptions):
    """What a URL of this backend can say beside what every backend of AWS can; durations in seconds.

    Attributes:
        queue: what the queue of a group is called.
    """

    scheme: str = "sns"
    queue: str = "{destination}-{group}"

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
