"""Trouble: pika's errors as ours.

Law: pure. What is permanent and what may be tried again is decided here, once. Codes: AMQP 0-9-1, section 1.3, and
https://www.rabbitmq.com/amqp-0-9-1-errata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pika import exceptions as pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from unimsg.backends._broker.access import tls_trouble
from unimsg.errors import (
    ConnectError,
    ConnectionLostError,
    Error,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
    PermissionDeniedError,
    TimedOutError,
    UnavailableError,
)

NAME = "rabbitmq"
REFUSED, NOT_FOUND, LOCKED, CONFLICT, NOT_ALLOWED = 403, 404, 405, 406, 530
BOTH_SIDES = re.compile(
    r"inequivalent arg '([^']+)' for \w+ '.*?' in vhost '.*?': received (.*) but current is (.*)"
)
TOO_LARGE = re.compile(r"message size (\d+) is larger than \w+ max size (\d+)")
"""`max_message_size` of the server; sent with 406."""
TOO_LATE = re.compile(r"delivery acknowledgement on channel \d+ timed out")
"""`consumer_timeout` of the server or the queue; sent with 406."""

MEANINGS: Sequence[tuple[tuple[type[BaseException], ...], type[Error], str]] = (
    (
        (pika.ProbableAuthenticationError, pika.AuthenticationError),
        PermissionDeniedError,
        "user or password is wrong",
    ),
    ((pika.ProbableAccessDeniedError,), PermissionDeniedError, "the virtual host is refused"),
    ((pika.ProtocolVersionMismatch,), OptionError, "the port does not speak AMQP 0-9-1"),
    ((TimeoutError, pika.AMQPHeartbeatTimeout), TimedOutError, "no answer came in time"),
    (
        (pika.StreamLostError, pika.ConnectionWrongStateError, pika.ChannelWrongStateError),
        ConnectionLostError,
        "the connection is lost",
    ),
    ((pika.AMQPConnectionError, AMQPConnectorException), ConnectError, "no node could be reached"),
    ((pika.AMQPError,), UnavailableError, "the server answered"),
)
"""What an error of pika means; the first that fits."""


class Conflict(NamedTuple):
    """What a server says when something exists already, and is another: both sides."""

    argument: str
    wanted: str
    is_: str


def translate(error: BaseException) -> Error | None:
    """Return our error for one of pika's or of TLS; None: not one of theirs."""
    cause = innermost(error)
    ours = tls_trouble(cause, backend=NAME, plain="amqp://") or _closed(cause)
    if ours is not None:
        return ours
    said = str(cause) or type(cause).__name__
    if isinstance(cause, pika.ProbableAccessDeniedError) and "not found" in said:
        return NotFoundError(f"there is no such virtual host: {said}", backend=NAME)
    for classes, kind, sentence in MEANINGS:
        if isinstance(cause, classes):
            return kind(f"{sentence}: {said}", backend=NAME)
    return None


def unreached(error: BaseException) -> Error:
    """Return our error for an attempt to connect that failed."""
    ours = translate(error)
    if ours is None or isinstance(ours, (ConnectionLostError, UnavailableError)):
        ours = ConnectError(f"no node could be reached: {str(error) or type(error).__name__}", backend=NAME)
    return ours


def innermost(error: BaseException) -> BaseException:
    """Return what is wrapped in errors of pika's ways to connect."""
    while True:
        inner = getattr(error, "exceptions", None) or [getattr(error, "exception", None)]
        found = inner[-1]
        if not isinstance(found, BaseException) and isinstance(error, AMQPConnectorException):
            found = next((part for part in error.args if isinstance(part, BaseException)), None)
        if not isinstance(found, BaseException):
            return error
        error = found


def conflict(error: BaseException) -> Conflict | None:
    """Return both sides of a definition that is not what exists; None: it is another error."""
    if not isinstance(error, pika.ChannelClosedByBroker) or error.reply_code != CONFLICT:
        return None
    found = BOTH_SIDES.search(error.reply_text)
    if found is None:
        return Conflict("definition", "this", error.reply_text)
    argument, wanted, is_ = (_plain(part) for part in found.groups())
    return Conflict(argument, wanted, is_)


def refusal(error: BaseException) -> Error | None:
    """Return what a server has against a message, for which it closed the channel; None: it is another error."""
    if not isinstance(error, pika.ChannelClosedByBroker):
        return None
    if found := TOO_LARGE.search(error.reply_text):
        size, limit = map(int, found.groups())
        return MessageTooLargeError(
            f"the body has {size} bytes, this server takes {limit}: raise its max_message_size, or set max_body=",
            size=size,
            limit=limit,
            backend=NAME,
        )
    return _closed(error) if error.reply_code in (REFUSED, NOT_FOUND) else None


def reason(error: BaseException) -> str:
    """Return why a channel ended, and what to do where something can be done."""
    if TOO_LATE.search(str(error)):
        return (
            "a delivery was not settled within the server's consumer_timeout, so it closed the channel: provision the "
            "setting consumer-timeout=<milliseconds>, or lower timeout= and prefetch= of the subscriber"
        )
    return str(error) or type(error).__name__


def _plain(text: str) -> str:
    """`the value 'quorum' of type 'longstr'` is `quorum`."""
    found = re.search(r"'([^']*)'", text)
    return found[1] if found else text.strip()


def _closed(error: BaseException) -> Error | None:
    """Return our error for a code with which a server closed a channel or a connection."""
    if not isinstance(error, (pika.ChannelClosedByBroker, pika.ConnectionClosedByBroker)):
        return None
    code, text = error.reply_code, error.reply_text
    if code == NOT_FOUND or (code == NOT_ALLOWED and "not found" in text):
        return NotFoundError(f"there is no such thing: {text}", backend=NAME)
    if code in (REFUSED, NOT_ALLOWED):
        return PermissionDeniedError(f"refused: {text}", backend=NAME)
    if (both := conflict(error)) is not None:
        return OptionError(
            f"{both.argument} is {both.is_}, {both.wanted} was asked for: {text}", backend=NAME
        )
    if isinstance(error, pika.ConnectionClosedByBroker):
        return ConnectionLostError(f"the server closed the connection: {text}", backend=NAME)
    return UnavailableError(f"the server answered: {text}", backend=NAME)
