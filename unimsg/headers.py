"""Headers: the two that travel beside the user's own, and what they say.

Law: data and pure functions. A dead letter says why it is one; a redriven message says for whom it comes again, and
for the how-manieth time. Who writes and who reads them share these functions and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from unimsg.message import WireMessage

DEAD_LETTER = "unimsg-dead-letter"
REDRIVE = "unimsg-redrive"


class RawHeaders(dict[str, str]):
    """Headers that a mapping of text cannot hold, a name twice or no value at all: the mapping has the last of each.

    Attributes:
        pairs: all of them as they came, in order; what is published again is this.
    """

    def __init__(self, headers: Mapping[str, str], pairs: Sequence[tuple[str, bytes | None]]) -> None:
        super().__init__(headers)
        self.pairs = tuple(pairs)


def copied(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that are no longer their giver's to change."""
    return RawHeaders(headers, headers.pairs) if isinstance(headers, RawHeaders) else dict(headers)


def marked(headers: Mapping[str, str], name: str, value: str) -> dict[str, str]:
    """Return headers with one of ours, in place of what had its name."""
    return _marked(headers, name, value, without=(name,))


def _marked(headers: Mapping[str, str], name: str, value: str, without: Sequence[str]) -> dict[str, str]:
    kept = {known: text for known, text in headers.items() if known not in without}
    kept[name] = value
    if not isinstance(headers, RawHeaders):
        return kept
    pairs = [pair for pair in headers.pairs if pair[0] not in without]
    return RawHeaders(kept, [*pairs, (name, value.encode("utf-8", "surrogateescape"))])


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
    """Whether a message was redriven for another group than this one, which must then ack it unhandled.

    A dead letter was not: it may have been redriven before it died again, and whoever reads dead letters gets it.
    """
    if REDRIVE not in headers or DEAD_LETTER in headers:
        return False
    redrive = redrive_of(headers)
    return redrive is not None and redrive.group is not None and redrive.group != group


def redriven(headers: Mapping[str, str], group: str | None) -> dict[str, str]:
    """Return the headers of a dead letter as those of the message it was, redriven once more for `group`."""
    before = redrive_of(headers)
    mark = Redrive(number=before.number + 1 if before is not None else 1, group=group)
    return _marked(headers, REDRIVE, msgspec.json.encode(mark).decode(), without=(DEAD_LETTER, REDRIVE))


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
