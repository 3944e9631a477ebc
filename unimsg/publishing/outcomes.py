"""Outcomes: what one result of a sender means, and the error its caller gets.

Law: pure. Three ends and no fourth: confirmed, certainly not published, unknown. Only what is certainly not
published and may go better later is sent again.
"""

from __future__ import annotations

import copy
from typing import Literal

from unimsg.errors import (
    BackendError,
    ConnectError,
    ConnectionLostError,
    Error,
    NotSentError,
    OutcomeUnknownError,
    PublishError,
    RejectedError,
    TimedOutError,
)

Meaning = Literal["again", "refused", "unknown"]


def meaning(error: Error) -> Meaning:
    """Return what a result that is not a receipt means for its message.

    A broken connection or a missing answer leaves open whether the message arrived; any other error is the
    service's or the sender's word that it did not.
    """
    if isinstance(error, (OutcomeUnknownError, ConnectionLostError, TimedOutError)):
        return "unknown"
    return "again" if error.retryable else "refused"


def meaning_of_raised(error: Error) -> Meaning:
    """Return what an error raised by `send_batch` means for all its messages: unknown, unless its class is certain."""
    return meaning(error) if isinstance(error, (PublishError, ConnectError)) else "unknown"


def loses_sender(error: Error, *, raised: bool) -> bool:
    """Return whether the sender is of no further use after this.

    As with a receiver, what it raises makes it useless, unless it is the service that spoke through it.
    """
    if isinstance(error, (ConnectError, ConnectionLostError)):
        return True
    return raised and not isinstance(error, (BackendError, PublishError))


class Wording:
    """The errors that callers get, with the place in them."""

    __slots__ = ("backend", "destination")

    def __init__(self, backend: str, destination: str) -> None:
        self.backend = backend
        self.destination = destination

    def placed(self, error: Error) -> Error:
        """Return the same error, naming the place unless it does already."""
        error.backend = error.backend or self.backend
        error.destination = error.destination or self.destination
        return error

    def again(self, error: Error) -> Error:
        """Return an equal error for another caller: a raised one carries its traceback, so it cannot be shared."""
        try:
            twin = copy.copy(error)
        except Exception:  # noqa: BLE001 - an error class of a third party that cannot be copied: share it
            return self.placed(error)
        twin.__cause__ = error.__cause__
        return self.placed(twin)

    def refused(self, error: Error) -> Error:
        """Return the end of a message that the service does not take."""
        if isinstance(error, PublishError):
            return self.again(error)
        told = RejectedError(
            f"the message was refused, it is not published: {error.sentence}",
            backend=self.backend,
            destination=self.destination,
        )
        told.__cause__ = error
        return told

    def unknown(self, error: BaseException | None, happened: str = "") -> OutcomeUnknownError:
        """Return the end of a message that left and got no answer."""
        if isinstance(error, OutcomeUnknownError):
            twin = self.again(error)
            assert isinstance(twin, OutcomeUnknownError)  # noqa: S101 - a copy is of its class
            return twin
        why = happened or _sentence(error)
        told = OutcomeUnknownError(
            f"the message left and no answer came: {why}. It may be published or not: publish it again with the "
            "same id, an idempotent consumer sorts it out",
            backend=self.backend,
            destination=self.destination,
            retry_after=error.retry_after if isinstance(error, Error) else None,
        )
        told.__cause__ = error
        return told

    def not_sent(self, happened: str, cause: Error | None = None) -> NotSentError:
        """Return the end of a message that was withdrawn before a sender took it for good."""
        last = f" (last answer: {cause.sentence})" if cause is not None else ""
        told = NotSentError(
            f"{happened}{last}: it is not published and can be published again",
            backend=self.backend,
            destination=self.destination,
            retry_after=cause.retry_after if cause is not None else None,
        )
        told.__cause__ = cause
        return told


def _sentence(error: BaseException | None) -> str:
    if isinstance(error, Error):
        return error.sentence
    return f"{type(error).__name__}: {error}" if error is not None else "the sender gave none"
