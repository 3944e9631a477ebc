"""Wire of SQS: a message as body and attributes, and back; the same for what Lambda hands over of a queue.

Law: pure mapping and checks, no I/O, no client library. The body is the body, headers are message attributes. What
has no place of its own in SQS (id, content type, a key that is no legal group, a body that is no legal text) stands in
one attribute more, `unimsg`, as JSON; a message without it is a foreign one, and is what it is.
"""

from __future__ import annotations

import hashlib
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, Self

import msgspec

from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import dedup_id
from unimsg.message import NO_HEADERS, Message, WireMessage, new_id

NAME = "sqs"
META = "unimsg"
OWN = "unimsg-"
MOST = 10
"""Attributes of a message (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/
sqs-message-metadata.html, 2026-11)."""
LONGEST_NAME = 256
LONGEST_GROUP = 128
"""Characters of a message group, and of a deduplication id."""
STAND_IN = "-"
"""The body of a message that has none: SQS takes no empty one."""

_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no sign for, and so SQS neither."""
_GROUP = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")
_NAME = re.compile(r"(?![Aa][Ww][Ss]\.|[Aa][Mm][Aa][Zz][Oo][Nn]\.|\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_ANONYMOUS = OWN + "anonymous-"
"""What the group of a message without a key begins with: each has one of its own."""


class Attribute(str):
    """A header that is no plain text at SQS: it keeps its type when the message is published again."""

    __slots__ = ("data_type",)
    data_type: str

    def __new__(cls, value: str, data_type: str) -> Self:
        """Return the value with its type."""
        self = super().__new__(cls, value)
        self.data_type = data_type
        return self


class Meta(msgspec.Struct, omit_defaults=True):
    """What the attribute `unimsg` says.

    Attributes:
        id: of the message.
        type: its content type.
        key: where the message group is not the key itself.
        body: `base64`: it is that; `empty` or `none`: it stands for an empty one, or for none at all.
        headers: ours for which there was no attribute left.
    """

    id: str | None = None
    type: str | None = None
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    body: str | None = None
    headers: Mapping[str, str] = {}


_decode_meta = msgspec.json.Decoder(Meta).decode
_encode_meta = msgspec.json.Encoder().encode

# ---------------------------------------------------------------- out


def encode(message: WireMessage, *, fifo: bool, content: bool = False, groups: bool = True) -> dict[str, Any]:
    """Return an entry of `SendMessageBatch`, without its `Id`.

    Args:
        message: what is sent.
        fifo: whether the queue is a FIFO queue.
        content: whether a FIFO queue compares bodies, not ids.
        groups: whether a key can be a message group where there is no order.

    Raises:
        RejectedError: a header has a name or a value that SQS has no place for, there are too many, or a delay is too
            long.
    """
    meta = Meta(message.id, message.content_type)
    entry: dict[str, Any] = {"MessageBody": _text(message.body, meta)}
    if fifo or (groups and message.key is not None):
        entry["MessageGroupId"] = _group(message, meta)
    elif message.key is not None:
        meta.key = message.key
    if fifo and not content:
        entry["MessageDeduplicationId"] = _dedup(message)
    if message.delay:
        entry["DelaySeconds"] = math.ceil(message.delay)
    entry["MessageAttributes"] = attributes(message.headers, meta)
    return entry


def attributes(headers: Mapping[str, str], meta: Meta) -> dict[str, Any]:
    """Return headers as message attributes, with our own beside them."""
    found: dict[str, Any] = {}
    if headers:
        ours = [name for name in headers if name.startswith(OWN)]
        room = MOST - 1 - (len(headers) - len(ours))
        if room < 0:
            raise RejectedError(
                f"the message has {len(headers)} headers, SQS takes {MOST - 1} beside ours: put some into the body",
                backend=NAME,
            )
        inside = ours[room:]
        if inside:
            meta.headers = {name: headers[name] for name in inside}
        for name, value in headers.items():
            if name not in inside:
                found[name] = _attribute(name, value)
    found[META] = {"DataType": "String", "StringValue": _ascii(_encode_meta(meta))}
    return found


def _ascii(raw: bytes) -> str:
    """Return JSON as text of which every sign is legal."""
    text = raw.decode()
    return _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if not text.isascii() else text


def _attribute(name: str, value: str) -> dict[str, Any]:
    if not _NAME.fullmatch(name) or name == META:
        raise RejectedError(
            f"header name {name!r} is none that SQS takes: use 1 to {LONGEST_NAME} of A-Z a-z 0-9 _ - and single dots, "
            "not AWS. or Amazon. at the beginning",
            backend=NAME,
        )
    if not value:
        raise RejectedError(f"header {name!r} is empty, which SQS does not take: leave it out", backend=NAME)
    kind = value.data_type if isinstance(value, Attribute) else "String"
    if kind.startswith("Binary") or not _encodes(value):
        return {
            "DataType": kind if kind.startswith("Binary") else "Binary",
            "BinaryValue": value.encode("utf-8", "surrogateescape"),
        }
    if _ILLEGAL.search(value):
        raise RejectedError(
            f"header {name!r} holds a control character, which SQS does not take: encode it", backend=NAME
        )
    return {"DataType": kind, "StringValue": str(value)}


def _encodes(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(body: bytes | None, meta: Meta) -> str:
    if not body:
        meta.body = "none" if body is None else "empty"
        return STAND_IN
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if text and (text.isprintable() or not _ILLEGAL.search(text)):
        return text
    meta.body = "base64"
    return b64encode(body).decode()


def _group(message: WireMessage, meta: Meta) -> str:
    key = message.key
    if key is None:
        meta.key = None
        return _ANONYMOUS + _short(message.id or new_id())
    if _GROUP.fullmatch(key):
        return key
    meta.key = key
    return _hash(key)


def _dedup(message: WireMessage) -> str:
    return _short(dedup_id(message) or new_id())


def _short(text: str) -> str:
    """Return a text that can be a group or a deduplication id: itself if it can, else its hash."""
    if len(text) <= LONGEST_GROUP - len(_ANONYMOUS) and _GROUP.fullmatch(text):
        return text
    return _hash(text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def measure(
    limit: int, max_body: int, *, fifo: bool, longest_delay: int, groups: bool = True
) -> Callable[[WireMessage], int]:
    """Return what gives the size of a message as SQS counts it, and refuses what SQS would refuse.

    Args:
        limit: of the queue, in bytes.
        max_body: of the body alone, in bytes.
        fifo: whether the queue is a FIFO queue.
        longest_delay: of one message, in seconds.
        groups: as of `encode`.
    """

    def size_of(message: WireMessage) -> int:
        if message.delay > longest_delay:
            raise RejectedError(
                f"a delay of {message.delay:g} s is longer than the {longest_delay} s of SQS", backend=NAME
            )
        entry = encode(message, fifo=fifo, groups=groups)
        text = entry["MessageBody"]
        size = len(text) if text.isascii() else len(message.body or b"")
        for name, value in entry["MessageAttributes"].items():
            size += len(name) + len(value["DataType"]) + _length(value)
        if size > limit or len(message.body or b"") > max_body:
            raise MessageTooLargeError(
                f"body and attributes have {size} bytes, the limit is {min(limit, max_body)}: send a reference instead",
                size=size,
                limit=min(limit, max_body),
                backend=NAME,
            )
        return size

    return size_of


def _length(value: Mapping[str, Any]) -> int:
    raw = value.get("BinaryValue")
    if raw is not None:
        return len(raw)
    text: str = value["StringValue"]
    return len(text) if text.isascii() else len(text.encode())


# ---------------------------------------------------------------- in


def decode(native: Mapping[str, Any]) -> WireMessage:
    """Return the message that `ReceiveMessage` gave."""
    system = native.get("Attributes") or {}
    return assemble(
        native.get("Body", ""),
        native.get("MessageAttributes") or {},
        group=system.get("MessageGroupId"),
        sent=system.get("SentTimestamp"),
    )


def decode_event(record: Mapping[str, Any]) -> WireMessage:
    """Return the message of one record that Lambda hands over of a queue (`eventSource` is `aws:sqs`)."""
    system = record.get("attributes") or {}
    found = {
        name: {
            "DataType": value.get("dataType", "String"),
            "StringValue": value.get("stringValue"),
            "BinaryValue": value.get("binaryValue"),
        }
        for name, value in (record.get("messageAttributes") or {}).items()
    }
    return assemble(
        record.get("body", ""), found, group=system.get("MessageGroupId"), sent=system.get("SentTimestamp")
    )


def assemble(
    text: str, found: Mapping[str, Mapping[str, Any]], *, group: str | None, sent: str | None
) -> WireMessage:
    """Return a message of its parts, which every door gives in its own wrapping."""
    meta = _meta(found.get(META))
    headers: dict[str, str] | Mapping[str, str] = NO_HEADERS
    if len(found) > (meta is not None):
        headers = {name: _header(value) for name, value in found.items() if name != META or meta is None}
    body: bytes | None = text.encode()
    key = group
    if meta is not None:
        if meta.headers:
            headers = {**headers, **meta.headers}
        if meta.body is not None:
            body = _body(text, meta.body)
        if meta.key is not msgspec.UNSET:
            key = meta.key if meta.key is None or isinstance(meta.key, str) else None
    return Message(
        body=body,
        key=key,
        headers=headers,
        id=meta.id if meta is not None else None,
        content_type=meta.type if meta is not None else None,
        timestamp=int(sent) / 1000 if sent else None,
    )


def _meta(value: Mapping[str, Any] | None) -> Meta | None:
    """Return what our attribute says; None: there is none, or it is somebody else's."""
    if value is None:
        return None
    try:
        return _decode_meta(value.get("StringValue") or "")
    except msgspec.DecodeError:
        return None


def _header(value: Mapping[str, Any]) -> str:
    kind = value.get("DataType", "String")
    if kind.startswith("Binary"):
        raw = value.get("BinaryValue") or b""
        return Attribute(_plain(raw).decode("utf-8", "surrogateescape"), kind)
    text = value.get("StringValue") or ""
    return text if kind == "String" else Attribute(text, kind)


def _body(text: str, how: str) -> bytes | None:
    if how == "none":
        return None
    if how == "empty":
        return b""
    return _plain(text)


def _plain(raw: bytes | str) -> bytes:
    """Return what base64 says; what is none stands for itself, since no header may make a message undecodable."""
    if isinstance(raw, bytes):
        return raw
    try:
        return b64decode(raw, validate=True)
    except ValueError:
        return raw.encode()
