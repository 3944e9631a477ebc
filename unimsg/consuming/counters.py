"""Counters: what became of everything that was received; each outcome increments exactly one of them.

Law: numbers only. received = acked + failed + deferred + dead_lettered + released + lost + expired + in flight;
a retry that is held in memory counts as failed and as received again.
"""

from __future__ import annotations


class Counters:
    """The outcomes of one consuming loop since it started."""

    __slots__ = (  # noqa: RUF023 - outcomes first, in the order in which people think of them
        "acked",
        "dead_lettered",
        "deferred",
        "expired",
        "failed",
        "lost",
        "received",
        "released",
        # below: told beside the outcome, not instead of it
        "completion_failed",
        "duplicates",
        "undecodable",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    received: int
    acked: int
    failed: int
    deferred: int
    dead_lettered: int
    released: int
    lost: int
    expired: int
    duplicates: int
    undecodable: int
    completion_failed: int

    @property
    def settled(self) -> int:
        """How many have an outcome."""
        return (
            self.acked
            + self.failed
            + self.deferred
            + self.dead_lettered
            + self.released
            + self.lost
            + self.expired
        )

    def add(self, outcome: str, count: int = 1) -> None:
        """Count an outcome by its name."""
        setattr(self, outcome, getattr(self, outcome) + count)

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}
