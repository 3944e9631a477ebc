"""The retry policy: a table of errors and attempts in, verdicts out (promises 10, 11)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import tenacity

from unimsg.errors import (
    DeadLetter,
    DecodeError,
    Defer,
    EncodeError,
    Fail,
    KeyReuseError,
    MissingKeyError,
    OptionError,
    StoreUnavailableError,
    ThrottledError,
)
from unimsg.policies.retry import RetryPolicy

PLAIN = RetryPolicy(max_attempts=3, initial=1, factor=2, max=10, jitter="none")


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


# ---------------------------------------------------------------- what becomes of it


@pytest.mark.parametrize(
    ("error", "attempt", "action", "delay"),
    [
        (ValueError("x"), 1, "retry", 1.0),
        (ValueError("x"), 2, "retry", 2.0),
        (ValueError("x"), 3, "dead_letter", 0.0),
        (ValueError("x"), 99, "dead_letter", 0.0),
        (Fail("x"), 1, "retry", 1.0),
        (Fail("x"), 3, "dead_letter", 0.0),
        (Fail("x", delay=7), 1, "retry", 7.0),
        (Fail("x", delay=0), 1, "retry", 0.0),
        (Fail("x", delay=timedelta(minutes=1)), 2, "retry", 60.0),
        (Fail("x", delay=7), 3, "dead_letter", 0.0),
        (Defer(5), 1, "defer", 5.0),
        (Defer(5), 99, "defer", 5.0),
        (Defer(timedelta(hours=1)), 1, "defer", 3600.0),
        (DeadLetter("poison"), 1, "dead_letter", 0.0),
        (DecodeError("x"), 1, "dead_letter", 0.0),
        (EncodeError("x"), 1, "dead_letter", 0.0),
        (KeyReuseError("x"), 1, "dead_letter", 0.0),
        (MissingKeyError("x"), 1, "dead_letter", 0.0),
        (StoreUnavailableError("x"), 1, "retry", 1.0),
        (ThrottledError("x", retry_after=8), 1, "retry", 8.0),
        (ThrottledError("x", retry_after=0.5), 1, "retry", 1.0),
        (ThrottledError("x", retry_after=500), 1, "retry", 500.0),
        (group(ValueError("x")), 1, "retry", 1.0),
    ],
    ids=repr,
)
def test_verdicts(error: BaseException, attempt: int, action: str, delay: float) -> None:
    verdict = PLAIN.verdict(error, attempt)
    assert (verdict.action, verdict.delay) == (action, delay)


@pytest.mark.parametrize(
    ("errors", "action", "delay"),
    [
        ([Defer(5), Fail(delay=7)], "retry", 7.0),
        ([Fail(delay=7), Defer(5)], "retry", 7.0),
        ([Defer(5), DeadLetter("x"), Fail()], "dead_letter", 0.0),
        ([Defer(5), Defer(6)], "defer", 5.0),
        ([group(Defer(5)), group(group(DeadLetter("x")))], "dead_letter", 0.0),
        ([Defer(5), ValueError("x")], "retry", 1.0),
        ([DeadLetter("x"), ValueError("x")], "retry", 1.0),
    ],
    ids=repr,
)
def test_a_group_of_verdicts_counts_as_its_most_severe(
    errors: list[BaseException], action: str, delay: float
) -> None:
    """Only a group made of nothing else; any other is a failure like any exception."""
    verdict = PLAIN.verdict(group(*errors), 1)
    assert (verdict.action, verdict.delay) == (action, delay)


@pytest.mark.parametrize(
    ("error", "attempt", "reason"),
    [
        (ValueError("no such card"), 1, "ValueError: no such card"),
        (ValueError(), 1, "ValueError"),
        (ValueError("x"), 3, "exhausted after 3 attempts: ValueError: x"),
        (Fail("later"), 1, "later"),
        (Fail(), 1, "failed by the handler"),
        (DeadLetter("poison"), 1, "poison"),
        (Defer(1), 1, "deferred by the handler"),
    ],
    ids=repr,
)
def test_the_reason_is_for_people(error: BaseException, attempt: int, reason: str) -> None:
    assert PLAIN.verdict(error, attempt).reason == reason


@pytest.mark.parametrize(
    ("policy", "error", "action"),
    [
        ({"retry_on": ConnectionError}, ConnectionResetError(), "retry"),
        ({"retry_on": ConnectionError}, ValueError(), "dead_letter"),
        ({"retry_on": (ConnectionError, TimeoutError)}, TimeoutError(), "retry"),
        ({"give_up_on": ValueError}, ValueError(), "dead_letter"),
        ({"give_up_on": ValueError}, UnicodeError(), "dead_letter"),
        ({"give_up_on": (KeyError, ValueError)}, KeyError(), "dead_letter"),
        ({"give_up_on": ValueError}, KeyError(), "retry"),
        ({"retry_on": ValueError, "give_up_on": UnicodeError}, UnicodeError(), "dead_letter"),
        ({"retry_on": ConnectionError}, Fail(), "retry"),
        ({"give_up_on": Exception}, Fail(), "retry"),
        ({"retry_on": ()}, ValueError(), "dead_letter"),
    ],
    ids=repr,
)
def test_which_errors_are_tried_again(policy: dict[str, Any], error: Exception, action: str) -> None:
    """A verdict that the handler gave itself is no kind of error."""
    assert RetryPolicy(**policy).verdict(error, 1).action == action


def test_a_change_of_the_exceptions_type_resets_nothing() -> None:
    """Promise 10."""
    kinds = [ValueError("x"), KeyError("x"), OSError("x")]
    assert [PLAIN.verdict(error, n).action for n, error in enumerate(kinds, 1)] == [
        "retry",
        "retry",
        "dead_letter",
    ]


def test_one_attempt_is_no_retry() -> None:
    assert RetryPolicy(max_attempts=1).verdict(ValueError("x"), 1).action == "dead_letter"


# ---------------------------------------------------------------- delays


def test_delays_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(max_attempts=99, initial=1, factor=3, max=20, jitter="none")
    assert [policy.delay(attempt) for attempt in (1, 2, 3, 4, 5, 90)] == [1, 3, 9, 20, 20, 20]
    assert policy.longest == 20


def test_a_function_of_the_attempt_decides() -> None:
    policy = RetryPolicy(wait=lambda attempt: timedelta(seconds=10 * attempt))
    assert policy.verdict(ValueError("x"), 2).delay == 20.0


@pytest.mark.parametrize(
    ("wait", "delays"),
    [
        (tenacity.wait_fixed(3), [3, 3, 3]),
        (tenacity.wait_incrementing(start=1, increment=2), [1, 3, 5]),
        (tenacity.wait_exponential(multiplier=1, max=3), [1, 2, 3]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)), [1, 9, 9]),
        (tenacity.wait_none(), [0, 0, 0]),
    ],
    ids=["fixed", "incrementing", "exponential", "combined", "chain", "none"],
)
def test_a_tenacity_wait_object_decides(wait: Any, delays: list[float]) -> None:
    policy = RetryPolicy(wait=wait)
    assert [policy.delay(attempt) for attempt in (1, 2, 3)] == delays


@pytest.mark.parametrize(
    "wait", [tenacity.wait_random(2, 4), tenacity.wait_exponential_jitter(multiplier=2, max=4, jitter=2)]
)
def test_a_tenacity_wait_object_with_jitter(wait: Any) -> None:
    assert all(2 <= RetryPolicy(wait=wait).delay(1) <= 4 for _ in range(100))


def test_retry_after_holds_over_a_wait_object_too() -> None:
    """Promise 11: a delay that the service asked for is never shortened."""
    policy = RetryPolicy(wait=tenacity.wait_fixed(1))
    assert policy.verdict(ThrottledError("x", retry_after=30), 1).delay == 30


def test_jitter_never_shortens_what_the_service_asked_for() -> None:
    policy = RetryPolicy(initial=20, max=20, jitter="full")
    for _ in range(200):
        assert policy.verdict(ThrottledError("x", retry_after=10), 1).delay >= 10


# ---------------------------------------------------------------- what is accepted


def test_defaults() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.max_deliveries, policy.initial, policy.max) == (5, 15, 1.0, 300.0)
    assert RetryPolicy(max_attempts=2).max_deliveries == 6
    assert RetryPolicy(initial=timedelta(seconds=2)).initial == 2.0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"max_attempts": 0}, "RetryPolicy(max_attempts=0) is not accepted: give a whole number from 1 on"),
        ({"max_attempts": -1}, "give a whole number from 1 on"),
        ({"max_attempts": 1.5}, "give a whole number from 1 on"),
        ({"max_attempts": True}, "give a whole number from 1 on"),
        ({"max_attempts": "5"}, "give a whole number from 1 on"),
        ({"max_attempts": 5, "max_deliveries": 4}, "give at least max_attempts"),
        ({"initial": -1}, "RetryPolicy(initial=-1) is not accepted: -1 is not a duration"),
        ({"initial": "1s"}, "RetryPolicy(initial='1s') is not accepted: '1s' is not a duration"),
        ({"initial": float("nan")}, "RetryPolicy(initial=nan) is not accepted: nan is not a duration"),
        ({"initial": 10, "max": 5}, "give at least as long a delay as initial"),
        ({"max": float("inf")}, "RetryPolicy(max=inf) is not accepted: inf is not a duration"),
        ({"factor": 0.5}, "RetryPolicy(factor=0.5) is not accepted: give a number from 1 to 1000"),
        ({"factor": float("nan")}, "give a number from 1 to 1000"),
        ({"factor": float("inf")}, "give a number from 1 to 1000"),
        ({"factor": "2"}, "give a number from 1 to 1000"),
        ({"jitter": "some"}, 'give "equal", "full" or "none"'),
        ({"jitter": True}, 'give "equal", "full" or "none"'),
        ({"retry_on": "ValueError"}, "give an exception class or a tuple of them"),
        ({"retry_on": [ValueError]}, "give an exception class or a tuple of them"),
        ({"give_up_on": int}, "give an exception class or a tuple of them"),
        ({"give_up_on": (ValueError, 1)}, "give an exception class or a tuple of them"),
        ({"wait": 5}, "give a function of the attempt, or a tenacity wait object"),
    ],
    ids=repr,
)
def test_what_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as raised:
        RetryPolicy(**given)
    assert sentence in str(raised.value)
