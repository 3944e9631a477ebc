"""Health of one consuming loop: progress, not a ping.

Law: facts and reasons; who asks decides what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class LoopHealth:
    """How one consuming loop is doing.

    Attributes:
        destination, group: what it consumes.
        running: the loop has not ended.
        ready: it has an open receiver and nothing is wrong.
        reasons: what is wrong, by part; empty means nothing.
        since_poll: seconds since the last answer of the service.
        oldest: seconds that the oldest delivery has been in hand.
        in_flight: deliveries in hand.
        lag: messages that this member has before it, where the service tells.
        assignments: what it was given, by the service's names.
        counters: outcomes by name.
    """

    destination: str
    group: str | None
    running: bool = False
    ready: bool = False
    reasons: dict[str, str] = field(default_factory=dict)
    since_poll: float | None = None
    oldest: float | None = None
    in_flight: int = 0
    lag: int | None = None
    assignments: set[str] = field(default_factory=set)
    counters: dict[str, int] = field(default_factory=dict)
