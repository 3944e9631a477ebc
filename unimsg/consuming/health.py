"""Health of one consuming loop: progress, not a ping.

Law: facts and reasons; who asks decides what they mean.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

log = logging.getLogger("unimsg.consuming")

REPEAT = 60.0
"""Seconds after which the same trouble is logged again."""


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

    _logged: dict[str, float] = field(default_factory=dict, repr=False)

    def redden(self, part: str, reason: str) -> None:
        """Say what is wrong with a part; logged at once, then once a minute while it lasts."""
        self.reasons[part] = reason
        now = asyncio.get_running_loop().time()
        if now - self._logged.get(part, -REPEAT) >= REPEAT:
            self._logged[part] = now
            log.warning("%r: %s", self.destination, reason)

    def green(self, part: str) -> None:
        """The part is well again."""
        if self.reasons and self.reasons.pop(part, None) is not None:
            self._logged.pop(part, None)
