"""Every error of unimsg, in one tree, and the three signals a handler may raise.

Law: nothing here knows a backend, does I/O or imports anything of unimsg. An error carries facts as attributes;
its sentence says what happened and what to do; the foreign library's own exception is its `__cause__`.

    Error                         backend, destination, retryable, retry_after
    ├─ ConfigError(ValueError)    found before any I/O
    │  ├─ UnknownSchemeError
    │  ├─ OptionError
    │  ├─ MissingExtraError(ImportError)
    │  └─ CapabilityError         missing
    ├─ BackendError               the service, or the way to it
    │  ├─ ConnectError            ConnectionLostError  ThrottledError  TimedOutError
    │  └─ NotFoundError           PermissionDeniedError  UnavailableError
    ├─ PublishError               certainly not published
    │  ├─ RejectedError           MessageTooLargeError (size, limit)  UnroutableError
    │  ├─ NotSentError            withdrawn before it left
    │  └─ PublishManyError        results
    ├─ OutcomeUnknownError        it left, no answer came; not a PublishError: "it failed" would be a guess
    ├─ SettleError                LeaseLostError  AssignmentLostError
    ├─ CodecError                 EncodeError  DecodeError (raw)
    ├─ IdempotencyError           InProgressError  KeyReuseError  MissingKeyError  StoreUnavailableError
    └─ ClosedError

    Outcome                       not errors: what a handler raises to choose a verdict
    └─ Fail  Defer  DeadLetter
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar


class Error(Exception):
    """The root of all errors that unimsg raises.

    Args:
        sentence: what happened and what to do about it, without secrets.
        backend: name of the backend concerned, if any.
        destination: the destination concerned, if any.
        retryable: whether trying again can help; the class decides unless given.
        retry_after: seconds to wait before that, when the service said so.
    """

    retryable: bool = False
    retry_after: float | None = None

    def __init__(
        self,
        sentence: str,
        *,
        backend: str | None = None,
        destination: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(sentence)
        self.backend = backend
        self.destination = destination
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            self.retry_after = retry_after

    @property
    def sentence(self) -> str:
        """What happened and what to do, without the place."""
        return str(self.args[0])

    def __str__(self) -> str:
        where = " ".join(
            part for part in (self.backend, repr(self.destination) if self.destination else None) if part
        )
        return f"{where}: {self.sentence}" if where else self.sentence


# ---------------------------------------------------------------- before any I/O


class ConfigError(Error, ValueError):
    """The program asked for something that cannot work; found before any I/O."""


class UnknownSchemeError(ConfigError):
    """No backend or store is known for the scheme of this URL."""


class OptionError(ConfigError):
    """An option is unknown, repeated, empty, malformed or out of range."""


class MissingExtraError(ConfigError, ImportError):
    """The backend is known, its client library is not installed; the sentence gives the `pip install` line."""


class CapabilityError(ConfigError):
    """The backend, as configured, cannot do what was asked.

    Attributes:
        missing: the names of the capabilities that fall short.
    """

    missing: tuple[str, ...] = ()

    def __init__(
        self,
        sentence: str,
        *,
        missing: Sequence[str] = (),
        backend: str | None = None,
        destination: str | None = None,
    ) -> None:
        super().__init__(sentence, backend=backend, destination=destination)
        self.missing = tuple(missing)


# ---------------------------------------------------------------- the service, or the way to it


class BackendError(Error):
    """The service, or the way to it, failed."""

    retryable = True


class ConnectError(BackendError):
    """The service could not be reached: nothing was sent."""


class ConnectionLostError(BackendError):
    """A working connection broke."""


class ThrottledError(BackendError):
    """The service asks for fewer requests; `retry_after` says for how long, when it told."""


class TimedOutError(BackendError):
    """No answer came in time."""


class NotFoundError(BackendError):
    """The destination or group does not exist; nothing is created unasked, `unimsg provision` makes it."""

    retryable = False


class PermissionDeniedError(BackendError):
    """The credentials are wrong, expired or not allowed to do this."""

    retryable = False


class UnavailableError(BackendError):
    """The service answered that it cannot serve this now."""


# ---------------------------------------------------------------- publishing


class PublishError(Error):
    """The message was certainly not published."""


class RejectedError(PublishError):
    """Refused by a check before the wire, or by the service; sending the same again will fail again."""


class MessageTooLargeError(RejectedError):
    """The encoded message is over a limit.

    Attributes:
        size: encoded size in bytes.
        limit: the most that is allowed, in bytes.
    """

    size: int = 0
    limit: int = 0

    def __init__(
        self,
        sentence: str,
        *,
        size: int,
        limit: int,
        backend: str | None = None,
        destination: str | None = None,
    ) -> None:
        super().__init__(sentence, backend=backend, destination=destination)
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class UnroutableError(RejectedError):
    """The service took the message and had no queue to put it into."""


class NotSentError(PublishError):
    """Withdrawn before it left this process; publishing again cannot duplicate it."""

    retryable = True


class PublishManyError(PublishError):
    """At least one message of a `publish_many` was not confirmed.

    Attributes:
        results: one `Receipt` or `Error` for each message, in order.
    """

    results: Sequence[object] = ()

    def __init__(
        self,
        sentence: str,
        *,
        results: Sequence[object] = (),
        backend: str | None = None,
        destination: str | None = None,
    ) -> None:
        super().__init__(sentence, backend=backend, destination=destination)
        self.results = results


class OutcomeUnknownError(Error):
    """The message left and no answer came: publish again with the same id, an idempotent consumer sorts it out."""

    retryable = True


# ---------------------------------------------------------------- settling


class SettleError(Error):
    """A delivery could not be settled; it will come again."""


class LeaseLostError(SettleError):
    """The lease ended before the delivery was settled: another consumer may have it."""


class AssignmentLostError(SettleError):
    """The partition, shard or channel that gave this delivery was taken away."""


# ---------------------------------------------------------------- codecs


class CodecError(Error):
    """A body does not fit its codec."""


class EncodeError(CodecError):
    """The object cannot be encoded; nothing was sent."""


class DecodeError(CodecError):
    """The bytes cannot be decoded; repeating cannot help.

    Attributes:
        raw: the bytes as they came; never part of the sentence or of a log line.
    """

    raw: bytes | None = None

    def __init__(
        self,
        sentence: str,
        *,
        raw: bytes | None = None,
        backend: str | None = None,
        destination: str | None = None,
    ) -> None:
        super().__init__(sentence, backend=backend, destination=destination)
        self.raw = raw


# ---------------------------------------------------------------- idempotency


class IdempotencyError(Error):
    """The idempotent call could not be made, or not be made now."""


class InProgressError(IdempotencyError):
    """Another worker runs this key; `retry_after` is the rest of its lease."""

    retryable = True


class KeyReuseError(IdempotencyError):
    """The same key came with another payload; the stored outcome is not touched."""


class MissingKeyError(IdempotencyError):
    """The message has no idempotency key, so running it could not be made safe."""


class StoreUnavailableError(IdempotencyError):
    """The idempotency store could not be reached."""

    retryable = True


class ClosedError(Error):
    """The client, publisher or subscriber is closed."""


# ---------------------------------------------------------------- signals of a handler


class Outcome(Exception):  # noqa: N818 - a verdict, not an error
    """A verdict raised by a handler instead of returning."""

    severity: ClassVar[int] = 0


class Defer(Outcome):
    """Give the message again after `delay`; this does not count as an attempt.

    Args:
        delay: seconds or a timedelta.
    """

    severity = 1

    def __init__(self, delay: float | timedelta = 0.0) -> None:
        super().__init__(delay)
        self.delay = delay


class Fail(Outcome):
    """This attempt failed; it counts.

    Args:
        reason: what went wrong, for the dead letter.
        delay: seconds or a timedelta until the next attempt; the retry policy decides unless given.
    """

    severity = 2

    def __init__(self, reason: str = "", *, delay: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class DeadLetter(Outcome):
    """Never try this message again: dead-letter it now.

    Args:
        reason: what is wrong with it, for the reader of the dead letter.
    """

    severity = 3

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _rebuild(cls: type[Error], args: tuple[object, ...], state: dict[str, object]) -> Error:
    """Unpickle an error whose constructor has required facts."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
