"""The retry budget: a tenth of the successes, one a second at least (promise 12)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unimsg.policies.budget import BURST, Budget


def spent(budget: Budget, now: float) -> int:
    """How many retries there are."""
    count = 0
    while budget.spend(now):
        count += 1
    return count


def test_a_fresh_budget_lets_a_flood_of_poison_get_to_its_dead_letters() -> None:
    assert spent(Budget(), 0.0) == BURST


def test_ten_successes_earn_one_retry() -> None:
    budget = Budget()
    spent(budget, 0.0)
    budget.success(9)
    assert not budget.spend(0.0)
    budget.success()
    assert budget.spend(0.0)
    assert not budget.spend(0.0)
    budget.success(100)
    assert spent(budget, 0.0) == 10


def test_a_second_earns_one_whatever_happens() -> None:
    budget = Budget()
    spent(budget, 0.0)
    assert not budget.spend(0.9)
    assert budget.spend(1.0)
    assert spent(budget, 8.0) == 7


def test_no_more_is_saved_than_the_burst() -> None:
    budget = Budget(burst=5)
    budget.success(1_000_000)
    assert spent(budget, 0.0) == 5
    assert spent(budget, 1e9) == 5


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), max_size=50))
def test_never_more_retries_than_were_earned(steps: list[tuple[int, float]]) -> None:
    """The law of the bucket, over any history."""
    budget, now, successes, retries = Budget(burst=10), 0.0, 0, 0
    budget.spend(now)
    retries += 1
    for count, passed in steps:
        budget.success(count)
        successes += count
        now += passed
        retries += spent(budget, now)
    assert retries <= 10 + successes * 0.1 + now * 1.0 + 1e-6
