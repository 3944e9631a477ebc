"""Backoff: the bounds of each jitter, growth up to the longest, and starting over (promise 11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.policies.backoff import Backoff, Jitter, backoff
from unimsg.policies.retry import STEEPEST


@pytest.mark.parametrize(
    ("jitter", "chance", "delay"),
    [
        ("none", 0.0, 8.0),
        ("none", 0.9, 8.0),
        ("equal", 0.0, 4.0),
        ("equal", 0.5, 6.0),
        ("equal", 1.0, 8.0),
        ("full", 0.0, 0.0),
        ("full", 0.5, 4.0),
        ("full", 1.0, 8.0),
    ],
)
def test_jitter(jitter: Jitter, chance: float, delay: float) -> None:
    assert backoff(4, initial=1, max=60, jitter=jitter, random=lambda: chance) == delay


@given(
    st.integers(1, 10**9),
    st.floats(0, 1e6),
    st.floats(1, STEEPEST),
    st.floats(0, 1e6),
    st.sampled_from(["none", "equal", "full"]),
)
def test_a_delay_is_never_beyond_its_bounds(
    attempt: int, initial: float, factor: float, longest: float, jitter: Jitter
) -> None:
    """Equal jitter shortens by no more than half; nothing overflows, whatever the attempt."""
    whole = backoff(attempt, initial=initial, factor=factor, max=longest, jitter="none")
    delay = backoff(attempt, initial=initial, factor=factor, max=longest, jitter=jitter)
    assert 0 <= delay <= whole <= longest
    if jitter == "equal":
        assert delay >= whole / 2


@given(st.integers(1, 100))
def test_a_later_attempt_never_waits_less(attempt: int) -> None:
    now, then = (backoff(n, initial=0.1, factor=1.5, max=30, jitter="none") for n in (attempt, attempt + 1))
    assert now <= then


def test_chance_spreads() -> None:
    assert len({backoff(1, initial=10, max=10) for _ in range(50)}) == 50


def test_a_success_starts_over() -> None:
    delays = Backoff(initial=1, max=4)
    seen = [delays.next() for _ in range(5)]
    for delay, whole in zip(seen, [1, 2, 4, 4, 4], strict=True):
        assert whole / 2 <= delay <= whole
    delays.reset()
    assert delays.next() <= 1
