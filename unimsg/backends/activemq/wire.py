"""Wire of ActiveMQ: a message as headers and body of a STOMP frame, and back; also as Amazon MQ hands it to a Lambda.

Law: pure mapping and checks, no I/O. Priority, expiry, time and content type are the broker's own headers; id and key
are headers of ours, which begin with `unimsg-`. A header that cannot travel as one, since its name has a meaning here
or its text would be changed on the way, is kept in `unimsg-headers` as JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from time import time
from typing import Any

import msgspec

from unimsg.backends.activemq.stomp import Frame, escape
from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import RawHeaders
from unimsg.message import NO_HEADERS, Message, WireMessage
from unimsg.spi import Settlement

NAME = "activemq"
ID, KEY, TOMBSTONE, HEADERS = "unimsg-id", "unimsg-key", "unimsg-tombstone", "unimsg-headers"
ATTEMPTS, DELIVERIES, FIRST_FAILED = "unimsg-attempts", "unimsg-deliveries", "unimsg-first-failed"
PAST = (ATTEMPTS, DELIVERIES, FIRST_FAILED)
"""The past of a message."""
TOPIC, QUEUE = "/topic/", "/queue/"
GROUP = "JMSXGroupID"
DELAY = "AMQ_SCHEDULED_DELAY"
OURS = frozenset({ID, KEY, TOMBSTONE, HEADERS, *PAST})
THEIRS = frozenset(
    {
        *("destination", "message-id", "subscription", "ack", "content-length", "content-type", "timestamp"),
        *("expires", "priority", "persistent", "redelivered", "receipt", "transaction", "transformation"),
        *("transformation-error", "reply-to", "correlation-id", "type", "id", "selector", "heart-beat"),
        *(
            "login",
            "passcode",
            "host",
            "session",
            "server",
            "version",
            "accept-version",
            "receipt-id",
            "message",
        ),
        *(GROUP, "JMSXGroupSeq", "JMSXGroupFirstForConsumer", "JMSXUserID", "scheduledJobId"),
        *(
            DELAY,
            "AMQ_SCHEDULED_PERIOD",
            "AMQ_SCHEDULED_REPEAT",
            "AMQ_SCHEDULED_CRON",
            "original-destination",
        ),
        *("originalExpiration", "dlqDeliveryFailureCause", "browser", "breadcrumbId"),
    }
)
"""Headers that mean something to the protocol or the broker: never a user's own."""
HIDDEN = OURS | THEIRS
NOT_COPIED = THEIRS - {
    "content-type",
    "expires",
    "priority",
    "timestamp",
    "correlation-id",
    "reply-to",
    "type",
}
"""What a copy of a message must not take over."""
HEADER_LIMIT = 10 * 1024 - 64
"""Bytes of one header: the broker refuses a line of more than 10 KiB (`StompCodec`, ActiveMQ 5.19)."""
PIECE = 3000
"""Characters of a long header's pieces, at most three bytes each and some escaped."""
PRIORITIES = range(10)


def topic(destination: str) -> str:
    """Return where a destination is published: a virtual topic, of which each group has a queue."""
    return f"{TOPIC}VirtualTopic.{destination}"


def queue(destination: str, group: str) -> str:
    """Return the queue of a group."""
    return f"{QUEUE}Consumer.{group}.VirtualTopic.{destination}"


def is_of(name: str, destination: str) -> bool:
    """Whether a queue, by the broker's name, is that of any group of a destination."""
    return (
        name.startswith("Consumer.")
        and name.partition(".")[2].partition(".")[2] == f"VirtualTopic.{destination}"
    )


def encode(message: WireMessage, where: str, *, grouped: bool, now: float | None = None) -> list[str]:
    """Return the lines of a SEND, without receipt and length.

    Args:
        message: what is sent.
        where: the broker's name of the destination.
        grouped: whether the key makes a message group.
        now: seconds since the epoch, for the expiry.
    """
    lines = ["SEND", f"destination:{escape(where)}", "persistent:true"]
    if message.id is not None:
        lines += _lines(ID, message.id)
    if message.key is not None:
        lines += _lines(KEY, message.key)
        if grouped:
            lines.append(f"{GROUP}:{escape(_group(message.key))}")
    if message.content_type is not None:
        lines.append(f"content-type:{escape(message.content_type)}")
    if message.timestamp is not None:
        lines.append(f"timestamp:{int(message.timestamp * 1000)}")
    if message.body is None:
        lines.append(f"{TOMBSTONE}:1")
    if message.headers:
        lines += _headers(message.headers)
    return lines + _terms(message, now)


def _terms(message: WireMessage, now: float | None) -> list[str]:
    """Return what the broker is asked to do with a message."""
    lines = [f"priority:{message.priority or 0}"]
    if message.ttl is not None:
        began = time() if now is None else now
        lines.append(f"expires:{max(1, int((began + message.ttl) * 1000))}")
    if message.delay:
        lines.append(f"{DELAY}:{max(1, round(message.delay * 1000))}")
    return lines


def _group(key: str) -> str:
    """Return a key as the name of a message group; an empty name would close it."""
    if _is_plain(key):
        return f"k{key}"
    return f"h{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _headers(headers: Mapping[str, str]) -> list[str]:
    kept: dict[str, str] = {}
    lines: list[str] = []
    for name, value in headers.items():
        if _is_plain(name) and name not in HIDDEN and _is_plain(value):
            lines.append(f"{escape(name)}:{escape(value)}")
        else:
            kept[name] = value
    pairs = headers.pairs if isinstance(headers, RawHeaders) else ()
    if kept or pairs:
        more = {"all": [[name, _packed(value)] for name, value in pairs]} if pairs else {}
        packed = base64.b64encode(
            msgspec.json.encode(more | {"one": [[_safe(n), _safe(v)] for n, v in kept.items()]})
        )
        lines += _lines(HEADERS, packed.decode())
    return lines


def _packed(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _safe(text: str) -> str:
    """Return any text as legal text: a lone surrogate cannot be JSON."""
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _unsafe(text: str) -> str:
    return base64.b64decode(text).decode("utf-8", "surrogatepass")


def _is_plain(text: str) -> bool:
    """Whether a text comes out of the broker as it went in."""
    if not text or len(text) > PIECE or text[0].isspace() or text[-1].isspace() or "\0" in text:
        return False
    return text.isascii() or text.encode("utf-8", "replace") == text.encode("utf-8", "surrogatepass")


def _lines(name: str, value: str) -> list[str]:
    """Return one of our own headers: as it is, or packed where it would be changed, in pieces where it is long."""
    if _is_plain(value) and not value.startswith("="):
        return [f"{name}:{escape(value)}"]
    packed = "=" + _safe(value)
    pieces = [packed[at : at + PIECE] for at in range(0, len(packed), PIECE)]
    return [f"{name}{f'.{number}' if number else ''}:{piece}" for number, piece in enumerate(pieces)]


def _own(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is None or not value.startswith("="):
        return value
    number = 1
    while (piece := headers.get(f"{name}.{number}")) is not None:
        value += piece
        number += 1
    return _unsafe(value[1:])


def decode(frame: Frame, *, priority: bool = False) -> WireMessage:
    """Return the message of a MESSAGE frame; its priority only where priorities mean something."""
    told = frame.headers
    timestamp, urgency = told.get("timestamp"), told.get("priority") if priority else None
    headers: Mapping[str, str] = NO_HEADERS
    if users := told.keys() - HIDDEN:
        headers = {name: told[name] for name in told if name in users and name.rpartition(".")[0] not in OURS}
    if HEADERS in told:
        headers = _unpacked(told, headers)
    return Message(
        body=None if TOMBSTONE in told else frame.body,
        key=_own(told, KEY),
        headers=headers or NO_HEADERS,
        id=_own(told, ID),
        content_type=told.get("content-type"),
        timestamp=int(timestamp) / 1000 if timestamp and timestamp.isdecimal() else None,
        priority=int(urgency) if urgency and urgency.isdecimal() else None,
    )


def _unpacked(told: Mapping[str, str], headers: Mapping[str, str]) -> Mapping[str, str]:
    packed = msgspec.json.decode(base64.b64decode(_own(told, HEADERS) or ""))
    found = {**headers, **{_unsafe(name): _unsafe(value) for name, value in packed.get("one", ())}}
    pairs = packed.get("all")
    if pairs is None:
        return found
    return RawHeaders(
        found, [(name, None if value is None else base64.b64decode(value)) for name, value in pairs]
    )


def copy(frame: Frame, where: str, settlement: Settlement) -> list[str]:
    """Return the lines of a SEND that brings a message again, with its past."""
    told = frame.headers
    lines = ["SEND", f"destination:{escape(where)}", "persistent:true"]
    lines += [
        f"{escape(name)}:{escape(value)}"
        for name, value in told.items()
        if name not in NOT_COPIED and name not in PAST
    ]
    lines += [f"{ATTEMPTS}:{settlement.executions}", f"{DELIVERIES}:{counts(frame)[1]}"]
    if settlement.first_failed is not None:
        lines.append(f"{FIRST_FAILED}:{round(settlement.first_failed * 1000)}")
    if settlement.delay > 0:
        lines.append(f"{DELAY}:{max(1, round(settlement.delay * 1000))}")
    return lines


def counts(frame: Frame) -> tuple[int, int]:
    """Return the executions that our header remembers, and the deliveries, this one included, as far as is known."""
    told = frame.headers
    again = told.get("redelivered") == "true"
    if DELIVERIES not in told and ATTEMPTS not in told:
        return 0, again + 1
    return _count(told.get(ATTEMPTS)), _count(told.get(DELIVERIES)) + again + 1


def first_failed(frame: Frame) -> float | None:
    """Return when the first execution failed that our header remembers, in seconds since the epoch."""
    told = frame.headers.get(FIRST_FAILED)
    return _count(told) / 1000 or None if told is not None else None


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < PIECE else 0


# ---------------------------------------------------------------- sizes


def measure(limit: int) -> Callable[[WireMessage], int]:
    """Return a function that gives the size of a message in bytes, and refuses what a broker would.

    Args:
        limit: the most that body and headers may have, in bytes.
    """

    def size_of(message: WireMessage) -> int:
        size = 0 if message.body is None else len(message.body)
        for name, value in message.headers.items():
            if not name:
                raise RejectedError("a header without a name cannot travel: give it one", backend=NAME)
            size += _bytes(name) + _bytes(value)
        if size > limit:
            raise MessageTooLargeError(
                f"body and headers have {size} bytes, the limit is {limit}: send a reference instead, or raise "
                "wireFormat.maxFrameSize of the broker's listener and max_body=",
                size=size,
                limit=limit,
                backend=NAME,
            )
        if message.priority is not None and message.priority not in PRIORITIES:
            raise RejectedError(f"priority {message.priority} is none: give 0 to 9", backend=NAME)
        return size

    return size_of


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# ---------------------------------------------------------------- Lambda


def from_event(event: Mapping[str, Any]) -> Iterator[tuple[str, WireMessage]]:
    """Yield queue and message of an event that Amazon MQ for ActiveMQ gives to a Lambda (`aws:mq`, also `aws:amq`).

    Source: https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html, read 2026-11. The name of the queue is spelt
    `physicalName` in events and `physicalname` in the documentation; both are taken.
    """
    for told in event["messages"]:
        place = told.get("destination") or {}
        name = place.get("physicalName") or place.get("physicalname") or ""
        headers = {key: str(value) for key, value in (told.get("properties") or {}).items()}
        for key in ("timestamp", "priority"):
            if told.get(key) is not None:
                headers[key] = str(told[key])
        yield name, decode(Frame("MESSAGE", headers, base64.b64decode(told["data"])))
