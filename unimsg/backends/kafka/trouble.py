"""Trouble: aiokafka's errors as ours, and what one means for a batch that was sent.

Law: pure. What is permanent, what may be tried again and what left its outcome open is decided here, once.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import errors as kafka

from unimsg.backends._broker.access import tls_trouble
from unimsg.errors import (
    ConnectError,
    Error,
    MessageTooLargeError,
    NotFoundError,
    NotSentError,
    OptionError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)

NAME = "kafka"

DENIED = (
    kafka.SaslAuthenticationFailed,
    kafka.IllegalSaslStateError,
    kafka.AuthenticationFailedError,
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
UNREACHABLE = (kafka.KafkaConnectionError, kafka.NodeNotReadyError, kafka.NoBrokersAvailable)
SLOW = (kafka.RequestTimedOutError, kafka.KafkaTimeoutError, TimeoutError)
RENEW = (
    kafka.OutOfOrderSequenceNumber,
    kafka.UnknownProducerId,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.ProducerFenced,
    kafka.ProducerClosed,
)
TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)

MEANINGS: Sequence[tuple[tuple[type[BaseException], ...], type[Error], str]] = (
    ((kafka.UnsupportedSaslMechanismError,), OptionError, "auth= does not fit"),
    (DENIED, PermissionDeniedError, "refused"),
    ((kafka.UnknownTopicOrPartitionError,), NotFoundError, "there is no such topic, provision it"),
    ((kafka.InvalidTopicError,), OptionError, "Kafka does not take this name"),
    (SLOW, TimedOutError, "no answer came in time"),
    (UNREACHABLE, ConnectError, "no broker could be reached"),
    (
        (kafka.KafkaError, kafka.ConsumerStoppedError, kafka.IllegalOperation),
        UnavailableError,
        "the broker answered",
    ),
)
"""What an error of aiokafka means for whoever asked; the first that fits."""

ENDS: Sequence[tuple[tuple[type[BaseException], ...], type[Error], str]] = (
    (TOO_LARGE, ConnectError, "the topic takes smaller batches now, its limit is asked anew"),
    (RENEW, ConnectError, "the batch was not appended, a new producer is needed"),
    ((kafka.KafkaTimeoutError,), NotSentError, "another batch of this partition waits still"),
    (DENIED, PermissionDeniedError, "refused"),
)
"""What it means for a batch that was sent: certain that it is not in the log."""


def translate(error: BaseException) -> Error | None:
    """Return our error for one of aiokafka's or of TLS; None: not one of theirs."""
    return tls_trouble(error, backend=NAME, plain="tls=off") or _meant(error, MEANINGS)


def outcome(error: Exception, *, size: int, limit: int, alone: bool) -> Error:
    """Return what an error of a batch means for each message in it.

    Args:
        error: what aiokafka gave as the batch's end.
        size: of the batch, in bytes.
        limit: what the topic took when it was asked, in bytes.
        alone: whether the batch held one message.
    """
    if alone and isinstance(error, TOO_LARGE):
        told = f"the topic refused {size} bytes, though {limit} were its limit when it was opened"
        return MessageTooLargeError(told, size=size, limit=limit, backend=NAME)
    certain = _meant(error, ENDS)
    if certain is not None:
        return certain
    unsaid = isinstance(error, kafka.UnknownError)  # so aiokafka calls any code that it does not know, too
    if isinstance(error, kafka.BrokerResponseError) and not error.retriable and not unsaid:
        return RejectedError(f"the broker refused it: {_said(error)}", backend=NAME)
    return OutcomeUnknownError(f"the message left and no answer came: {_said(error)}", backend=NAME)


def _meant(
    error: BaseException, table: Sequence[tuple[tuple[type[BaseException], ...], type[Error], str]]
) -> Error | None:
    for classes, ours, sentence in table:
        if isinstance(error, classes):
            return ours(f"{sentence}: {_said(error)}", backend=NAME)
    return None


def _said(error: BaseException) -> str:
    """What an error says, and what caused it: aiokafka tells the reason there."""
    text = str(error) or type(error).__name__
    cause = error.__cause__
    return f"{text}: {cause!r}" if cause is not None else text
