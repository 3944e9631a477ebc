"""Counters: what became of everything that one publisher accepted; each message is in exactly one place.

Law: numbers only. accepted = confirmed + not_published + unknown + waiting + in_flight.
"""

from __future__ import annotations

from msgspec import Struct, structs


class Counters:
    """Running totals."""

    __slots__ = ("accepted", "batches", "confirmed", "not_published", "resent", "unknown")

    def __init__(self) -> None:
        self.accepted = 0
        self.confirmed = 0
        self.not_published = 0
        self.unknown = 0
        self.resent = 0
        self.batches = 0


class PublisherStats(Struct, frozen=True, kw_only=True):
    """What a publisher has done since it was made.

    Attributes:
        accepted: messages that passed the checks before the wire.
        confirmed, not_published, unknown: how they ended.
        waiting: not handed over yet.
        in_flight: handed over, no answer yet, and the caller still waits.
        resent: how often a message was put back to be sent again.
        batches: how many `send_batch` calls were made.
        reopened: how often a lost sender was replaced.
    """

    accepted: int = 0
    confirmed: int = 0
    not_published: int = 0
    unknown: int = 0
    waiting: int = 0
    in_flight: int = 0
    resent: int = 0
    batches: int = 0
    reopened: int = 0

    def plus(self, other: PublisherStats) -> PublisherStats:
        """Return the sums of two publishers of one destination."""
        mine, theirs = structs.asdict(self), structs.asdict(other)
        return PublisherStats(**{name: mine[name] + theirs[name] for name in mine})
