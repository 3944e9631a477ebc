"""Retry: what becomes of a message whose handler failed.

Law: pure. An error and an attempt go in, a verdict comes out; nobody waits here. A success never comes by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from unimsg.errors import (
    CodecError,
    ConfigError,
    DeadLetter,
    Defer,
    Fail,
    InProgressError,
    KeyReuseError,
    MissingKeyError,
    OptionError,
    Outcome,
)
from unimsg.policies.backoff import Jitter, backoff
from unimsg.units import Duration, seconds

Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

PERMANENT = (CodecError, KeyReuseError, MissingKeyError)
"""Errors that repeating cannot cure."""
STEEPEST = 1000
"""The most that `factor` can be: beyond it the longest delay comes at once."""
DELIVERIES = 3
"""Times `max_attempts`: the deliveries that are allowed where nobody remembers attempts."""


class Verdict(Struct, frozen=True):
    """What to do.

    Attributes:
        action: `retry` counts as an attempt, `defer` does not, `dead_letter` ends it.
        delay: seconds until it may run again.
        reason: for people and dead letters.
    """

    action: Literal["retry", "defer", "dead_letter"]
    delay: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed message is tried again; a success pays for none of it.

    Attributes:
        max_attempts: executions of the handler, the first included; after the last the message is dead-lettered.
        max_deliveries: deliveries by the broker where nobody remembers attempts, so that a message which kills the
            process ends; three times `max_attempts` unless given.
        initial: delay after the first failure.
        factor: by which each delay exceeds the one before.
        max: the longest delay.
        jitter: `equal` waits between half of the delay and all of it, `full` anything below it, `none` all of it.
        retry_on: exceptions that are tried again; any other is permanent.
        give_up_on: exceptions that are permanent, also when `retry_on` holds them.
        wait: the delay as a function of the attempt, or a tenacity wait object; instead of the four above.
    """

    max_attempts: int = 5
    max_deliveries: int | None = None
    initial: Duration = 1.0
    factor: float = 2.0
    max: Duration = 300.0
    jitter: Jitter = "equal"
    retry_on: Kinds = Exception
    give_up_on: Kinds = ()
    wait: Any = None

    def __post_init__(self) -> None:
        for name in ("initial", "max"):
            object.__setattr__(self, name, _duration(name, getattr(self, name)))
        if self.max_deliveries is None and _whole(self.max_attempts):
            object.__setattr__(self, "max_deliveries", DELIVERIES * self.max_attempts)
        for name, accepts, accepted in RULES:
            if not accepts(self, getattr(self, name)):
                raise OptionError(
                    f"RetryPolicy({name}={getattr(self, name)!r}) is not accepted: give {accepted}"
                )

    @property
    def longest(self) -> float:
        """The longest delay in seconds."""
        return seconds(self.max)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after this attempt, jitter included."""
        if self.wait is not None:
            return _waited(self.wait, attempt)
        return backoff(
            attempt, initial=seconds(self.initial), factor=self.factor, max=self.longest, jitter=self.jitter
        )

    def verdict(self, error: BaseException, attempt: int) -> Verdict:
        """Decide about a failure.

        Args:
            error: what the handler raised; in a group made only of `Fail`, `Defer` and `DeadLetter` the most severe.
            attempt: the execution that failed, 1 is the first.
        """
        error = _unwrapped(error)
        if isinstance(error, Defer):
            return Verdict("defer", seconds(error.delay), "deferred by the handler")
        if isinstance(error, InProgressError):  # nothing failed: another worker is at it
            return Verdict("defer", error.retry_after or 0.0, _reason(error))
        reason = _reason(error)
        if self._permanent(error):
            return Verdict("dead_letter", 0.0, reason)
        if attempt >= self.max_attempts:
            return Verdict("dead_letter", 0.0, f"exhausted after {attempt} attempts: {reason}")
        if isinstance(error, Fail) and error.delay is not None:
            return Verdict("retry", seconds(error.delay), reason)
        asked = getattr(error, "retry_after", None)
        delay = self.delay(attempt)
        return Verdict(
            "retry", max(delay, float(asked)) if isinstance(asked, (int, float)) else delay, reason
        )

    def _permanent(self, error: BaseException) -> bool:
        if isinstance(error, Fail):
            return False
        if isinstance(error, (DeadLetter, *PERMANENT)) or isinstance(error, self.give_up_on):  # noqa: SIM101 - two lists
            return True
        return not isinstance(error, self.retry_on)


def _reason(error: BaseException) -> str:
    if isinstance(error, (Fail, DeadLetter)):
        return error.reason or "failed by the handler"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _unwrapped(error: BaseException) -> BaseException:
    """In a group made only of outcomes the most severe one counts; any other group stands for itself."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    outcomes = [leaf for leaf in leaves if isinstance(leaf, Outcome)]
    return max(outcomes, key=lambda outcome: outcome.severity) if len(outcomes) == len(leaves) else error


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


class _RetryState:
    """As much of tenacity's `RetryCallState` as its wait objects look at."""

    def __init__(self, attempt: int) -> None:
        self.attempt_number = attempt
        self.outcome = None
        self.idle_for = 0.0
        self.seconds_since_start = 0.0


def _waited(wait: Callable[[Any], Any], attempt: int) -> float:
    foreign = type(wait).__module__.partition(".")[0] == "tenacity"
    return seconds(wait(_RetryState(attempt) if foreign else attempt))


def _duration(name: str, value: Duration) -> float:
    try:
        return seconds(value)
    except ConfigError as error:
        raise OptionError(f"RetryPolicy({name}={value!r}) is not accepted: {error}") from None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _kinds(value: object) -> bool:
    kinds = value if isinstance(value, tuple) else (value,)
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


RULES: tuple[tuple[str, Callable[[RetryPolicy, Any], bool], str], ...] = (
    ("max_attempts", lambda _, value: _whole(value), "a whole number from 1 on"),
    (
        "max_deliveries",
        lambda policy, value: _whole(value) and value >= policy.max_attempts,
        "at least max_attempts",
    ),
    (
        "factor",
        lambda _, value: isinstance(value, (int, float)) and 1 <= value <= STEEPEST,
        f"a number from 1 to {STEEPEST}",
    ),
    ("jitter", lambda _, value: value in ("equal", "full", "none"), '"equal", "full" or "none"'),
    ("max", lambda policy, value: value >= policy.initial, "at least as long a delay as initial"),
    ("retry_on", lambda _, value: _kinds(value), "an exception class or a tuple of them"),
    ("give_up_on", lambda _, value: _kinds(value), "an exception class or a tuple of them"),
    (
        "wait",
        lambda _, value: value is None or callable(value),
        "a function of the attempt, or a tenacity wait object",
    ),
)
"""What each argument accepts, and how that is said."""
