"""Entries: what the answer to a batch says of each of its entries.

Law: pure. A batch can fail in part; every entry has its own end, found by its `Id` and never by its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unimsg.backends._aws import trouble
from unimsg.errors import (
    ConnectError,
    ConnectionLostError,
    Error,
    LeaseLostError,
    NotSentError,
    OutcomeUnknownError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from unimsg.message import Position


def ids(entries: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Give each entry the `Id` by which `sorted_out` finds it again."""
    for number, entry in enumerate(entries):
        entry["Id"] = str(number)
    return entries


def failures(answer: Mapping[str, Any], count: int, backend: str) -> list[Error | None]:
    """Return, for each entry of a batch, the error it ended with; None: it succeeded.

    An entry that the answer names nowhere has an unknown end.
    """
    found: list[Error | None] = [
        UnavailableError("the answer does not name this entry", backend=backend) for _ in range(count)
    ]
    for done in answer.get("Successful") or ():
        found[int(done["Id"])] = None
    for failed in answer.get("Failed") or ():
        told = trouble.answered(
            str(failed.get("Code", "")), str(failed.get("Message", "")), 0, backend=backend
        )
        if isinstance(told, RejectedError) and not failed.get("SenderFault", True):
            told = UnavailableError(told.sentence, backend=backend)
        found[int(failed["Id"])] = told
    return found


def places(answer: Mapping[str, Any], destination: str) -> dict[int, Position]:
    """Return where each entry that was published is kept, as far as the answer says so."""
    return {
        int(done["Id"]): Position(destination, done["MessageId"])
        for done in answer.get("Successful") or ()
        if "MessageId" in done
    }


def publish_end(error: Error) -> Error:
    """Return what an error means for a message that was on its way: what the service did not say is unknown."""
    if isinstance(error, UnavailableError):
        told: Error = OutcomeUnknownError(
            f"the message left, and whether it is stored is not known: {error.sentence}",
            backend=error.backend,
        )
    elif isinstance(error, ConnectError):
        told = NotSentError(f"nothing was sent: {error.sentence}", backend=error.backend)
    elif isinstance(error, (ConnectionLostError, TimedOutError)):
        told = OutcomeUnknownError(
            f"the message left and no answer came: {error.sentence}", backend=error.backend
        )
    else:
        return error
    told.__cause__ = error
    return told


def settle_end(error: Error | None) -> Error | None:
    """Return what an error means for a delivery that was to be settled or extended."""
    if isinstance(error, RejectedError):
        lost = LeaseLostError(f"the lease is gone: {error.sentence}", backend=error.backend)
        lost.__cause__ = error
        return lost
    return error
