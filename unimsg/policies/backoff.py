"""Backoff: how long to wait before the next try.

Law: pure but for its chance, which can be handed in.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from typing import Literal, TypeAlias

Jitter: TypeAlias = Literal["equal", "full", "none"]
_chance = _random.Random()  # noqa: S311 - it spreads load, it keeps no secret
GROWTH = 64
"""Beyond this power every sensible delay has reached its maximum."""


def backoff(
    attempt: int,
    *,
    initial: float,
    factor: float = 2.0,
    max: float,  # noqa: A002 - the field's word
    jitter: Jitter = "equal",
    random: Callable[[], float] = _chance.random,
) -> float:
    """Return the seconds to wait after `attempt` (1 is the first) has failed.

    Equal jitter gives half of the exponential delay to all of it, so a delay is never shortened by more than half;
    full gives anything below it.
    """
    delay = min(max, initial * factor ** min(attempt - 1, GROWTH))
    if jitter == "equal":
        return delay / 2 + random() * delay / 2
    return random() * delay if jitter == "full" else delay


class Backoff:
    """The delays of one loop that tries again until it succeeds.

    Args:
        initial: seconds after the first failure.
        max: the longest.
    """

    __slots__ = ("_attempt", "_initial", "_max")

    def __init__(self, *, initial: float, max: float) -> None:  # noqa: A002 - the field's word
        self._initial = initial
        self._max = max
        self._attempt = 0

    def next(self) -> float:
        """Return the seconds to wait now."""
        self._attempt += 1
        return backoff(self._attempt, initial=self._initial, max=self._max)

    def reset(self) -> None:
        """It succeeded: the next delay is short again."""
        self._attempt = 0
