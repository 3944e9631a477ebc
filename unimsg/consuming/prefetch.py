"""Prefetch: how many messages to have in hand, by time, count and bytes.

Law: pure; the time comes in as an argument. Two seconds of work at the measured rate, a quarter of the lease at the
most, never less than what keeps the workers busy, never more than the limits.
"""

from __future__ import annotations

MESSAGES = 1_000
BYTES = 64 * 1024 * 1024
AHEAD = 2.0
"""Seconds of work to have in hand."""
SMOOTHING = 0.3
SAMPLE = 0.1
"""Seconds over which a rate is measured at least."""


class Prefetch:
    """Decides how many more messages may be asked for.

    Args:
        messages: the most to have in hand.
        size: the most bytes of bodies to have in hand.
        workers: how many handlers run at once.
        lease: seconds of the lease, if there is one.
    """

    __slots__ = ("_ahead", "_floor", "_last_done", "_last_time", "messages", "rate", "size")

    def __init__(self, *, messages: int, size: int, workers: int, lease: float | None) -> None:
        self.messages = messages
        self.size = size
        self._ahead = AHEAD if lease is None else min(AHEAD, lease / 4)
        self._floor = min(messages, 2 * workers)
        self.rate = 0.0
        self._last_time = 0.0
        self._last_done = 0

    def measure(self, done: int, now: float) -> None:
        """Learn the rate from the count of all that was finished so far."""
        elapsed = now - self._last_time
        if elapsed < SAMPLE:
            return
        rate = (done - self._last_done) / elapsed
        self.rate = rate if self.rate == 0.0 else self.rate + SMOOTHING * (rate - self.rate)
        self._last_time, self._last_done = now, done

    @property
    def target(self) -> int:
        """How many to have in hand now."""
        return max(self._floor, min(self.messages, int(self.rate * self._ahead)))

    def room(self, in_hand: int, size: int) -> int:
        """How many more may be asked for, given the messages and bytes in hand or on their way."""
        if size >= self.size:
            return 0
        room = self.target - in_hand
        if room > 0 and in_hand and size:
            room = min(room, max(1, int((self.size - size) / (size / in_hand))))
        return max(0, room)
