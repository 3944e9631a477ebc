"""Wire of RabbitMQ: a message as properties, headers and body, and back; also as Amazon MQ hands it to a Lambda.

Law: pure mapping and checks, no I/O, no client library. Id, content type, time, ttl and priority are AMQP's own
properties; the key is the routing key. What does not fit there is a header of ours, which begins with `unimsg-`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import RawHeaders
from unimsg.message import NO_HEADERS, Message, WireMessage

NAME = "rabbitmq"
ID, KEY, TOMBSTONE = "unimsg-id", "unimsg-key", "unimsg-tombstone"
ATTEMPTS, DELIVERIES, FIRST_FAILED = "unimsg-attempts", "unimsg-deliveries", "unimsg-first-failed"
RUNG, COPY = "unimsg-rung", "unimsg-copy"
OURS = frozenset({ID, KEY, TOMBSTONE, ATTEMPTS, DELIVERIES, FIRST_FAILED, RUNG, COPY})
"""Headers that are never shown to a handler."""
THEIRS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
"""What the server adds on the way through a dead-letter exchange or a quorum queue."""
DELIVERY_COUNT = "x-delivery-count"
SHORT = 255
"""Bytes of a short string: names, ids, routing keys."""
HEADERS_LIMIT = 120 * 1024
"""Bytes of all headers: properties travel in one frame, of 128 KiB with a server that says nothing."""
PERSISTENT = 2


def encode(message: WireMessage) -> tuple[str, dict[str, Any]]:
    """Return routing key and properties of a message."""
    headers: dict[str, Any] = {}
    if message.headers:
        headers = _table(message.headers)
    properties: dict[str, Any] = {"delivery_mode": PERSISTENT}
    key, known = message.key, message.id
    routing = _routing(key, headers) if key is not None else ""
    if known is not None and _is_short(known):
        properties["message_id"] = known
    elif known is not None:
        headers[ID] = _value(known)
    if message.body is None:
        headers[TOMBSTONE] = True
    if message.content_type is not None:
        properties["content_type"] = message.content_type
    if message.timestamp is not None:
        properties["timestamp"] = int(message.timestamp)
    if message.priority is not None:
        properties["priority"] = message.priority
    if message.ttl is not None:
        properties["expiration"] = str(max(0, int(message.ttl * 1000)))
    if headers:
        properties["headers"] = headers
    return routing, properties


def _routing(key: str, headers: dict[str, Any]) -> str:
    """Return a key as routing key; one that does not fit there becomes a header."""
    if key and _is_short(key):
        return key
    headers[KEY] = _value(key)
    return ""


def _is_short(text: str) -> bool:
    if text.isascii():
        return len(text) <= SHORT
    try:
        return len(text.encode()) <= SHORT
    except UnicodeEncodeError:
        return False


def _table(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return headers as AMQP has them: text, bytes where it is none, nothing where there was none."""
    table: dict[str, Any] = {name: _value(value) for name, value in headers.items()}
    if isinstance(headers, RawHeaders):
        table.update((name, None) for name, value in headers.pairs if value is None)
    return table


def _value(text: str) -> str | bytes:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def decode(exchange: str, routing_key: str, properties: Any, body: bytes) -> WireMessage:  # noqa: ANN401 - pika's
    """Return the message of a delivery; the name of a queue, as routing key of the default exchange, is no key."""
    table = properties.headers
    key = routing_key if exchange and routing_key else None
    known = properties.message_id
    payload: bytes | None = body
    headers: Mapping[str, str] = NO_HEADERS
    if table:
        if KEY in table:
            key = _text(table[KEY])
        if ID in table:
            known = _text(table[ID])
        if TOMBSTONE in table:
            payload = None
        headers = shown(table)
    timestamp = properties.timestamp
    return Message(
        body=payload,
        key=key,
        headers=headers,
        id=known,
        content_type=properties.content_type,
        timestamp=None if timestamp is None else float(timestamp),
        priority=properties.priority,
    )


def shown(table: Mapping[str, Any]) -> Mapping[str, str]:
    """Return a table of AMQP as headers, without ours and the server's."""
    found: dict[str, str] = {}
    empty = False
    for name, value in table.items():
        if name in OURS or name.startswith(THEIRS):
            continue
        empty = empty or value is None
        found[name] = _text(value)
    if empty:
        return RawHeaders(found, [(name, _raw(table[name])) for name in found])
    return found or NO_HEADERS


def _text(value: Any) -> str:  # noqa: ANN401 - what AMQP knows: text, bytes, numbers, times, tables, nothing
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if value is None:
        return ""
    if isinstance(value, (dict, list, bool)):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _raw(value: Any) -> bytes | None:  # noqa: ANN401 - as above
    return None if value is None else _text(value).encode("utf-8", "surrogateescape")


def counts(properties: Any, *, redelivered: bool) -> tuple[int, int]:  # noqa: ANN401 - pika's
    """Return the executions that our header remembers, and the deliveries, this one included.

    A quorum queue counts the deliveries that came back to it; a classic one only says that there was one.
    """
    table = properties.headers or {}
    before = table.get(DELIVERY_COUNT)
    returned = before if isinstance(before, int) else int(redelivered)
    return _count(table.get(ATTEMPTS)), _count(table.get(DELIVERIES)) + returned + 1


def first_failed(properties: Any) -> float | None:  # noqa: ANN401 - pika's
    """Return when the first execution failed that our header remembers, in seconds since the epoch."""
    return _count((properties.headers or {}).get(FIRST_FAILED)) / 1000 or None


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


# ---------------------------------------------------------------- sizes


def measure(limit: int) -> Callable[[WireMessage], int]:
    """Return a function that gives the size of a body in bytes, and refuses what a server would.

    Args:
        limit: the most that the body may have, in bytes; headers have a limit of their own.
    """

    def size_of(message: WireMessage) -> int:
        size = 0 if message.body is None else len(message.body)
        if size > limit:
            raise MessageTooLargeError(
                f"the body has {size} bytes, the limit is {limit}: send a reference instead, or raise "
                "max_message_size of the server and max_body=",
                size=size,
                limit=limit,
                backend=NAME,
            )
        if message.headers:
            size += _headers_size(message.headers)
        if message.content_type is not None and not _is_short(message.content_type):
            raise RejectedError(f"a content type has {SHORT} bytes at most", backend=NAME)
        if message.priority is not None and not 0 <= message.priority <= SHORT:
            raise RejectedError(f"priority {message.priority} is none: give 0 to {SHORT}", backend=NAME)
        return size

    return size_of


def _headers_size(headers: Mapping[str, str]) -> int:
    size = 0
    for name, value in headers.items():
        if not name or not _is_short(name):
            raise RejectedError(
                f"header name {name[:40]!r} is none here: give text of 1 to {SHORT} bytes", backend=NAME
            )
        size += len(name) + (len(value) if value.isascii() else len(_value(value)) * 2)
    if size > HEADERS_LIMIT:
        raise RejectedError(
            f"the headers have {size} bytes, the limit is {HEADERS_LIMIT}: they travel in one frame; use the body",
            backend=NAME,
        )
    return size


# ---------------------------------------------------------------- Lambda


def from_event(event: Mapping[str, Any]) -> Iterator[tuple[str, str, WireMessage]]:
    """Yield queue, virtual host and message of an event that Amazon MQ for RabbitMQ gives to a Lambda (`aws:rmq`).

    Source: https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html, read 2026-11. A time is text without a zone; a
    header is a number, or a list of bytes.
    """
    for place, records in event["rmqMessagesByQueue"].items():
        queue, _, vhost = place.partition("::")
        for record in records:
            properties = _Basic(record["basicProperties"])
            yield queue, vhost or "/", decode("", "", properties, base64.b64decode(record["data"]))


class _Basic:
    """The properties of an event, under the names that AMQP's own have in Python."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.headers = {name: _header(value) for name, value in (told.get("headers") or {}).items()}
        self.message_id = told.get("messageId")
        self.content_type = told.get("contentType")
        self.priority = told.get("priority")
        self.timestamp = _moment(told.get("timestamp"))


def _header(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), list):
        raw = bytes(byte & 0xFF for byte in value["bytes"])  # Java's bytes have a sign
        return raw.decode("utf-8", "surrogateescape")
    return value


MOMENT = "%b %d, %Y, %I:%M:%S %p"


def _moment(text: str | None) -> float | None:
    """Return a time such as `Jan 1, 1970, 12:33:41 AM`, in UTC; None: there is none that can be read."""
    if text is None:
        return None
    try:
        return datetime.strptime(" ".join(text.split()), MOMENT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
