"""Health of a client: what its consuming loops report, put together.

Law: facts and sentences; who asks decides what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unimsg.consuming.health import LoopHealth
from unimsg.publishing.counters import PublisherStats


@dataclass(frozen=True, slots=True)
class Health:
    """How a client is doing: progress, not a ping.

    Attributes:
        live: no consuming loop has ended with an error; when False, restart the process.
        ready: the client is open and every consuming loop has its receiver and nothing wrong.
        reasons: what is wrong, in sentences.
        subscribers: each consuming loop, with its counters.
        publishers: what became of all that was published, by destination, publishers that are closed included.
    """

    live: bool
    ready: bool
    reasons: Sequence[str] = ()
    subscribers: Sequence[LoopHealth] = field(default_factory=tuple)
    publishers: Mapping[str, PublisherStats] = field(default_factory=dict)
