"""Dead letters: the message as it was, and one header that says why it is there.

Law: composes and reads the header; publishing is handed in, the decision is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from unimsg.consuming.delivery import Delivery
from unimsg.headers import DEAD_LETTER, marked
from unimsg.message import WireMessage, new_id

ERROR_BYTES = 1024


class Origin(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where the message came from."""

    backend: str
    destination: str
    position: str | None = None


class DeadLetterInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the header `unimsg-dead-letter` says, as JSON.

    Attributes:
        reason: why it is here, for people.
        error_type, error: of the last failure, the message cut at 1 KiB.
        attempts: executions of the handler.
        first_failed, last_failed: ISO 8601, UTC.
        origin: backend, destination and position it came from.
        group, handler: who could not handle it.
    """

    reason: str
    attempts: int
    origin: Origin
    error_type: str = ""
    error: str = ""
    first_failed: str = ""
    last_failed: str = ""
    group: str | None = None
    handler: str = ""


def compose(delivery: Delivery[Any], reason: str, *, backend: str, handler: str) -> WireMessage:
    """Return the dead letter of a delivery: body, headers, key and id byte for byte, plus one header."""
    message = delivery.message
    trouble = delivery._trouble
    info = DeadLetterInfo(
        reason=_cut(reason),
        attempts=delivery.attempt,
        origin=Origin(
            backend=backend,
            destination=delivery.destination,
            position=str(delivery.position) if delivery.position else None,
        ),
        group=delivery.group,
        handler=handler,
    )
    if trouble is not None:
        info.error_type, info.error = trouble.error_type, _cut(trouble.error)
        info.first_failed, info.last_failed = _iso(trouble.first), _iso(trouble.last)
    headers = marked(message.headers, DEAD_LETTER, msgspec.json.encode(info).decode())
    return WireMessage(
        body=message.body,
        key=message.key,
        headers=headers,
        id=message.id or new_id(),
        content_type=message.content_type,
        timestamp=message.timestamp,
    )


def read(headers: Mapping[str, str]) -> DeadLetterInfo | None:
    """Return what the header says; None where there is none, or none of ours."""
    raw = headers.get(DEAD_LETTER)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=DeadLetterInfo)
    except msgspec.DecodeError:
        return None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _cut(text: str) -> str:
    """At most 1 KiB of UTF-8, and legal in a header."""
    return text.encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore")
