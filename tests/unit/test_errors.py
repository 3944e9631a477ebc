"""The error tree: its shape, what an error carries and says, and that it survives pickling."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from datetime import timedelta
from typing import Any

import pytest

from unimsg import errors
from unimsg.errors import (
    BackendError,
    CapabilityError,
    ConfigError,
    DeadLetter,
    DecodeError,
    Defer,
    Error,
    Fail,
    MessageTooLargeError,
    MissingExtraError,
    NotSentError,
    Outcome,
    OutcomeUnknownError,
    PublishError,
    PublishManyError,
    ThrottledError,
)
from unimsg.message import Receipt

PARENTS = {
    "ConfigError": "Error ValueError",
    "UnknownSchemeError": "ConfigError",
    "OptionError": "ConfigError",
    "MissingExtraError": "ConfigError ImportError",
    "CapabilityError": "ConfigError",
    "BackendError": "Error",
    "ConnectError": "BackendError",
    "ConnectionLostError": "BackendError",
    "ThrottledError": "BackendError",
    "TimedOutError": "BackendError",
    "NotFoundError": "BackendError",
    "PermissionDeniedError": "BackendError",
    "UnavailableError": "BackendError",
    "PublishError": "Error",
    "RejectedError": "PublishError",
    "MessageTooLargeError": "RejectedError",
    "UnroutableError": "RejectedError",
    "NotSentError": "PublishError",
    "PublishManyError": "PublishError",
    "OutcomeUnknownError": "Error",
    "SettleError": "Error",
    "LeaseLostError": "SettleError",
    "AssignmentLostError": "SettleError",
    "CodecError": "Error",
    "EncodeError": "CodecError",
    "DecodeError": "CodecError",
    "IdempotencyError": "Error",
    "InProgressError": "IdempotencyError",
    "KeyReuseError": "IdempotencyError",
    "MissingKeyError": "IdempotencyError",
    "StoreUnavailableError": "IdempotencyError",
    "ClosedError": "Error",
    "Error": "Exception",
    "Outcome": "Exception",
    "Fail": "Outcome",
    "Defer": "Outcome",
    "DeadLetter": "Outcome",
}
RETRYABLE = {
    "BackendError",
    "ConnectError",
    "ConnectionLostError",
    "ThrottledError",
    "TimedOutError",
    "UnavailableError",
    "NotSentError",
    "OutcomeUnknownError",
    "InProgressError",
    "StoreUnavailableError",
}
CLASSES: dict[str, Any] = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and name in PARENTS
}


def test_the_tree_is_complete() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined == set(PARENTS)
    shown = set(re.findall(r"\b[A-Z]\w+", (errors.__doc__ or "").split("\n\n", 2)[2]))
    assert set(PARENTS) <= shown, "the docstring shows the whole tree"


@pytest.mark.parametrize("name", PARENTS)
def test_each_error_has_its_parents(name: str) -> None:
    assert [base.__name__ for base in CLASSES[name].__bases__] == PARENTS[name].split()


@pytest.mark.parametrize("name", sorted(set(PARENTS) - {"Outcome", "Fail", "Defer", "DeadLetter"}))
def test_whether_trying_again_can_help(name: str) -> None:
    assert CLASSES[name].retryable is (name in RETRYABLE)


def test_unknown_is_never_called_failed() -> None:
    """Promise 2."""
    assert not issubclass(OutcomeUnknownError, PublishError)


EXAMPLES: list[Error] = [
    Error("gone", backend="sqlite", destination="orders", retryable=True, retry_after=2.5),
    CapabilityError("no ttl", missing=["ttl", "delay"], backend="sqs"),
    MissingExtraError("needs aiokafka: pip install 'unimsg[kafka]'", backend="kafka"),
    MessageTooLargeError("too large", size=11, limit=10, backend="sqs", destination="orders"),
    DecodeError("not JSON", raw=b"\xff", destination="orders"),
    PublishManyError("1 of 2", results=[Receipt("a"), NotSentError("late")], backend="memory"),
    ThrottledError("slow down", retry_after=1.0),
    *(
        CLASSES[name]("what happened", backend="b", destination="d")
        for name in PARENTS
        if issubclass(CLASSES[name], Error) and name != "MessageTooLargeError"
    ),
]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - made here


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("twin", [pickled, copy.copy], ids=["pickle", "copy"])
def test_an_error_survives(error: Error, twin: Any) -> None:
    """Between processes as well: a worker pool hands errors over."""
    again = twin(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args

    def facts(of: Error) -> dict[str, str]:
        return {name: repr(value) for name, value in vars(of).items()}

    assert facts(again) == facts(error)
    assert again.retryable == error.retryable


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "it broke"),
        ({"backend": "sqs"}, "sqs: it broke"),
        ({"destination": "orders"}, "'orders': it broke"),
        ({"backend": "sqs", "destination": "orders"}, "sqs 'orders': it broke"),
    ],
)
def test_an_error_says_where(facts: dict[str, Any], text: str) -> None:
    error = Error("it broke", **facts)
    assert str(error) == text
    assert error.sentence == "it broke"


def test_facts_are_attributes() -> None:
    error = BackendError("it broke", retryable=False, retry_after=3.0)
    assert (error.retryable, error.retry_after) == (False, 3.0)
    assert (BackendError.retryable, BackendError.retry_after) == (True, None)


def test_the_raw_body_is_no_part_of_what_is_shown() -> None:
    error = DecodeError("the body is not JSON", raw=b"4111-1111")
    assert "4111" not in str(error) + repr(error)


@pytest.mark.parametrize(
    "outcome",
    [Fail("bad", delay=5), Fail(), Defer(2.0), Defer(timedelta(seconds=3)), DeadLetter("poison")],
    ids=repr,
)
def test_a_verdict_survives_pickling(outcome: Outcome) -> None:
    again = pickled(outcome)
    assert type(again) is type(outcome)
    assert vars(again) == vars(outcome)


def test_verdicts_are_no_errors_and_have_an_order() -> None:
    assert not issubclass(Outcome, Error)
    assert Defer.severity < Fail.severity < DeadLetter.severity


def test_a_configuration_error_is_a_value_error() -> None:
    """So that programs which know nothing of unimsg catch it."""
    with pytest.raises(ValueError, match="wrong"):
        raise ConfigError("wrong")
