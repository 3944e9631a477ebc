"""Wire of sqlite: a message as a row, and back.

Law: pure mapping and checks, no I/O. What UTF-8 cannot hold is kept as bytes, and comes back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from unimsg.errors import MessageTooLargeError
from unimsg.message import NO_HEADERS, Message, WireMessage

NAME = "sqlite"
_headers = msgspec.json.Decoder(dict[str, str])

COLUMNS = "id, key, headers, content_type, timestamp, body"


def encode(message: WireMessage) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`."""
    return (
        text(message.id),
        text(message.key),
        _json(message.headers) if message.headers else None,
        text(message.content_type),
        message.timestamp,
        message.body,
    )


def decode(row: Sequence[Any]) -> WireMessage:
    """Return the message of a row of `COLUMNS`."""
    return Message(
        id=untext(row[0]),
        key=untext(row[1]),
        headers=_unjson(row[2]) if row[2] is not None else NO_HEADERS,
        content_type=untext(row[3]),
        timestamp=row[4],
        body=row[5],
    )


def text(value: str | None) -> str | bytes | None:
    """Return text as SQLite can hold it: bytes where it came from bytes that are not UTF-8."""
    if value is None or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


def untext(value: str | bytes | None) -> str | None:
    """Undo `text`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def _json(headers: Any) -> str:  # noqa: ANN401 - a mapping of text
    try:
        return msgspec.json.encode(dict(headers)).decode()
    except UnicodeEncodeError:
        return json.dumps(dict(headers))  # plain ASCII: odd surrogates are escaped


def _unjson(raw: str) -> dict[str, str]:
    try:
        return _headers.decode(raw)
    except msgspec.DecodeError:
        return dict(json.loads(raw))


def measure(limit: int) -> Callable[[WireMessage], int]:
    """Return a function that gives the size of a message in bytes, and refuses one over `limit`."""

    def size_of(message: WireMessage) -> int:
        size = len(message.body or b"")
        if message.headers is not NO_HEADERS:
            size += sum(_bytes(name) + _bytes(value) for name, value in message.headers.items())
        if size > limit:
            raise MessageTooLargeError(
                f"body and headers have {size} bytes, the limit is {limit}: send a reference instead, "
                "or raise max_body=",
                size=size,
                limit=limit,
                backend=NAME,
            )
        return size

    return size_of


def _bytes(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
