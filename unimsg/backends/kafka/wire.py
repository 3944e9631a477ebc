"""Wire of Kafka: a message as key, value, headers and timestamp of a record, and back; which partition a key has.

Law: pure mapping and checks, no I/O, no client library. A record of ours begins its headers with `unimsg-id`, then
`content-type` where there is one; after these come the user's own. What is not UTF-8 comes back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import RawHeaders
from unimsg.message import NO_HEADERS, Message, WireMessage

NAME = "kafka"
ID = "unimsg-id"
CONTENT_TYPE = "content-type"
BATCH_OVERHEAD = 61
"""Bytes of a batch without records (https://kafka.apache.org/documentation/#recordbatch)."""
RECORD_OVERHEAD = 80
"""At most so many bytes of lengths and deltas in a record, and of the names of our own headers."""
HEADER_OVERHEAD = 10
"""At most so many bytes of lengths in a header."""
KEYS = 65_536
"""Keys whose partition is remembered."""

Header = tuple[str, bytes | None]


def encode(message: WireMessage) -> list[Header]:
    """Return the headers of the record of a message; the rest of it is as it is."""
    headers: list[Header] = []
    if message.id is not None:
        headers.append((ID, _bytes(message.id)))
        if message.content_type is not None:
            headers.append((CONTENT_TYPE, _bytes(message.content_type)))
    if message.headers:
        if isinstance(message.headers, RawHeaders):
            headers += message.headers.pairs
        else:
            headers += [(name, _bytes(value)) for name, value in message.headers.items()]
    return headers


def milliseconds(timestamp: float | None) -> int | None:
    """Return a time as Kafka has it; None: now."""
    return None if timestamp is None else int(timestamp * 1000)


def decode(key: bytes | None, value: bytes | None, headers: Sequence[Header], timestamp: int) -> WireMessage:
    """Return the message of a record."""
    id_: str | None = None
    content_type: str | None = None
    begin, end = 0, len(headers)
    if end and headers[0][0] == ID and headers[0][1]:
        id_ = headers[0][1].decode("utf-8", "surrogateescape")
        begin = 1
        if end > 1 and headers[1][0] == CONTENT_TYPE and headers[1][1] is not None:
            content_type = headers[1][1].decode("utf-8", "surrogateescape")
            begin = 2
    return Message(
        body=value,
        key=None if key is None else key.decode("utf-8", "surrogateescape"),
        headers=_headers(headers[begin:]) if begin < end else NO_HEADERS,
        id=id_,
        content_type=content_type,
        timestamp=timestamp / 1000 if timestamp >= 0 else None,
    )


def _headers(pairs: Sequence[Header]) -> dict[str, str]:
    """Return headers as text; what a mapping of text cannot hold is kept beside it."""
    headers = {name: "" if value is None else _text(value) for name, value in pairs}
    if len(headers) < len(pairs) or any(value is None for _, value in pairs):
        return RawHeaders(headers, pairs)
    return headers


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    """Return text as bytes: what came from bytes that are no UTF-8 as those, any other lone surrogate as it is."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------- sizes


def measure(limit: int, max_body: int, *, compacted: bool = False) -> Callable[[WireMessage], int]:
    """Return a function that gives the size of a record in bytes, and refuses one that a topic would.

    Args:
        limit: the most that body, key and headers may have together, in bytes.
        max_body: the most that the body may have, in bytes.
        compacted: whether the topic keeps the last record of each key, and takes none without.
    """

    def size_of(message: WireMessage) -> int:
        body, key = message.body, message.key
        if compacted and key is None:
            raise RejectedError("the topic is compacted, and takes no message without a key: give key=")
        length = 0 if body is None else len(body)
        size, overhead = length, RECORD_OVERHEAD
        if key is not None:
            size += len(key) if key.isascii() else len(_bytes(key))
        if message.headers:
            size += _headers_size(message)
            overhead += HEADER_OVERHEAD * _count(message.headers)
        if size > limit or length > max_body:
            _refuse(size, min(limit, max_body))
        if message.id is not None:
            overhead += 4 * len(message.id)
        if message.content_type is not None:
            overhead += 4 * len(message.content_type)
        return size + overhead

    return size_of


def _count(headers: Mapping[str, str]) -> int:
    return len(headers.pairs) if isinstance(headers, RawHeaders) else len(headers)


def _headers_size(message: WireMessage) -> int:
    headers = message.headers
    for name in headers:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise RejectedError(
                f"header name {name!r} is not text that Kafka can hold: choose another"
            ) from None
    if isinstance(headers, RawHeaders):
        return sum(len(name.encode()) + len(value or b"") for name, value in headers.pairs)
    return sum(len(name.encode()) + len(_bytes(value)) for name, value in headers.items())


def _refuse(size: int, limit: int) -> None:
    raise MessageTooLargeError(
        f"body, key and headers have {size} bytes, the limit is {limit}: send a reference instead, or raise "
        "max.message.bytes of the topic and max_body=",
        size=size,
        limit=limit,
        backend=NAME,
    )


# ---------------------------------------------------------------- partitions


def murmur2(data: bytes) -> int:
    """Return the hash that Kafka's Java client takes of a key, as an unsigned 32-bit number.

    Source: org.apache.kafka.common.utils.Utils.murmur2, Apache Kafka 4.4.
    """
    mask, mix, length = 0xFFFFFFFF, 0x5BD1E995, len(data)
    hashed = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        four = int.from_bytes(data[at : at + 4], "little") * mix & mask
        hashed = hashed * mix & mask ^ ((four ^ four >> 24) * mix & mask)
    if rest := data[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * mix & mask
    hashed = (hashed ^ hashed >> 13) * mix & mask
    return hashed ^ hashed >> 15


def placing(partitions: int) -> Callable[[str], tuple[int, bytes]]:
    """Return a function that gives partition and bytes of a key, as every Java client would choose them."""

    @lru_cache(KEYS)
    def place(key: str) -> tuple[int, bytes]:
        raw = _bytes(key)
        return (murmur2(raw) & 0x7FFFFFFF) % partitions, raw

    return place
