"""Headers: the two that travel beside the user's own, and what they say.

Law: data and pure functions. A dead letter says why it is one; a redriven message says for whom it comes again, and
for the how-manieth time. Who writes and who reads them share these functions and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from unimsg.message import WireMessage

DEAD_LETTER = "unimsg-dead-letter"
REDRIVE = "unimsg-redrive"


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """What the header `unimsg-redrive` says, as JSON.

    Attributes:
        number: 1 for the first redrive of a message, one more each time; with a higher one than the row of an
            idempotent handler knows, a failed key is claimed again.
        group: for whom; every other group acks it unhandled. None: for whoever gets it.
    """

    number: int
    group: str | None = None


class _Place(msgspec.Struct, frozen=True):
    destination: str = ""


class _Letter(msgspec.Struct, frozen=True):
    """As much of a dead letter's header as tells it from another group's of the same message."""

    group: str | None = None
    origin: _Place = _Place()


_redrive = msgspec.json.Decoder(Redrive)
_letter = msgspec.json.Decoder(_Letter)


def redrive_of(headers: Mapping[str, str]) -> Redrive | None:
    """Return what the header says; None where there is none, or none of ours."""
    raw = headers.get(REDRIVE)
    if raw is None:
        return None
    try:
        return _redrive.decode(raw)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def for_another(headers: Mapping[str, str], group: str | None) -> bool:
    """Whether a message was redriven for another group than this one, which must then ack it unhandled."""
    if REDRIVE not in headers:
        return False
    redrive = redrive_of(headers)
    return redrive is not None and redrive.group is not None and redrive.group != group


def redriven(headers: Mapping[str, str], group: str | None) -> dict[str, str]:
    """Return the headers of a dead letter as those of the message it was, redriven once more for `group`."""
    before = redrive_of(headers)
    mark = Redrive(number=before.number + 1 if before is not None else 1, group=group)
    kept = {name: value for name, value in headers.items() if name not in (DEAD_LETTER, REDRIVE)}
    return {**kept, REDRIVE: msgspec.json.encode(mark).decode()}


def dedup_id(message: WireMessage) -> str | None:
    """Return what a service with a dedup window compares: the id, and on whose behalf the message travels again.

    A dead letter and a redriven message keep their id. Compared by it alone, the second of them within the window
    would be confirmed and not stored: lost. The same dead letter written twice is still one, and so is one redrive.
    """
    headers, known = message.headers, message.id
    if known is None or not (REDRIVE in headers or DEAD_LETTER in headers):
        return known
    redrive = redrive_of(headers)
    if redrive is not None:
        known += f"/redrive-{redrive.number}-{redrive.group or ''}"
    if DEAD_LETTER in headers:
        try:
            letter = _letter.decode(headers[DEAD_LETTER])
        except (msgspec.DecodeError, UnicodeEncodeError):
            return known
        known += f"/dead-{letter.origin.destination}-{letter.group or ''}"
    return known
