"""The breaker: closed, open, half-open; the time comes in as an argument (promise 12)."""

from __future__ import annotations

import pytest

from unimsg.policies.breaker import CALLS, OPEN_FOR, WINDOW, Breaker


def fed(ok: int, failed: int, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    breaker.record(ok=True, now=now, count=ok)
    for _ in range(failed):
        breaker.record(ok=False, now=now)
    return breaker


def state(breaker: Breaker) -> str:
    return breaker.state


@pytest.mark.parametrize(
    ("ok", "failed", "found"),
    [
        (0, CALLS - 1, "closed"),
        (0, CALLS, "open"),
        (10, 10, "open"),
        (11, 10, "closed"),
        (1000, 999, "closed"),
        (1000, 1000, "open"),
        (1000, 0, "closed"),
        (0, 0, "closed"),
    ],
)
def test_it_opens_at_half_of_enough(ok: int, failed: int, found: str) -> None:
    breaker = fed(ok, failed)
    assert state(breaker) == found
    assert breaker.allows(0.0) is (found == "closed")


def test_it_stays_open_for_a_while_then_one_result_decides() -> None:
    breaker = fed(0, CALLS)
    assert not breaker.allows(OPEN_FOR - 0.1)
    assert state(breaker) == "open"
    assert breaker.allows(OPEN_FOR)
    assert state(breaker) == "half-open"
    breaker.record(ok=True, now=OPEN_FOR)
    assert state(breaker) == "closed"
    assert breaker.allows(OPEN_FOR)


def test_a_failure_while_half_open_opens_it_again_for_as_long() -> None:
    breaker = fed(0, CALLS)
    breaker.allows(OPEN_FOR)
    breaker.record(ok=False, now=OPEN_FOR + 1)
    assert state(breaker) == "open"
    assert not breaker.allows(OPEN_FOR + 1 + OPEN_FOR - 0.1)
    assert breaker.allows(OPEN_FOR + 1 + OPEN_FOR)


def test_what_was_before_is_forgotten_when_it_closes() -> None:
    breaker = fed(0, CALLS)
    breaker.allows(OPEN_FOR)
    breaker.record(ok=True, now=OPEN_FOR)
    for _ in range(CALLS - 2):
        breaker.record(ok=False, now=OPEN_FOR)
    assert state(breaker) == "closed"


def test_results_are_forgotten_after_the_window() -> None:
    breaker = fed(0, CALLS - 1)
    breaker.record(ok=False, now=WINDOW + 1)
    assert state(breaker) == "closed"


def test_it_can_be_tripped_by_hand() -> None:
    breaker = Breaker(open_for=5)
    breaker.trip(100.0)
    assert not breaker.allows(104.9)
    assert breaker.allows(105.0)


def test_failures_while_open_do_not_prolong_it() -> None:
    """What ran when it opened still ends."""
    breaker = fed(0, CALLS)
    for _ in range(100):
        breaker.record(ok=False, now=OPEN_FOR - 1)
    assert breaker.allows(OPEN_FOR)


def test_successes_that_are_not_recorded_yet_count_before_it_opens() -> None:
    """Failures are known at once, successes when they are acked: a burst of both is no reason to stop."""
    breaker = Breaker()
    for _ in range(CALLS):
        breaker.record(ok=False, now=0.0, uncounted=lambda: CALLS + 1)
    assert state(breaker) == "closed"
    breaker.record(ok=False, now=0.0, uncounted=lambda: CALLS + 1)
    assert state(breaker) == "open"


def test_what_ended_well_first_decides_though_it_is_not_recorded_yet() -> None:
    """Else one poisoned message among many that are acked a moment later would stop the intake again and again."""
    breaker = fed(0, CALLS)
    breaker.allows(OPEN_FOR)
    breaker.record(ok=False, now=OPEN_FOR, uncounted=lambda: 1)
    assert state(breaker) == "closed"
