"""Lines: a message as one line of text, and back; what `consume` writes, `publish` reads.

Law: pure. A body that is JSON stands there as it is, byte for byte; any other is base64.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from unimsg.errors import EncodeError
from unimsg.message import NO_HEADERS, Message, WireMessage, new_id

JSON_TYPE = "application/json"


class Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One message as JSON.

    Attributes:
        body: any JSON.
        body_base64: instead of it, bytes that are not JSON.
        key, headers, id, content_type: as in `unimsg.Message`.
    """

    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    key: str | None = None
    headers: dict[str, str] = {}
    id: str | None = None
    content_type: str | None = None


_decoder = msgspec.json.Decoder(Line)
_encoder = msgspec.json.Encoder()
_any_json = msgspec.json.Decoder(msgspec.Raw)


def parse(line: bytes) -> Message[bytes | None]:
    """Return the message of a line.

    Raises:
        EncodeError: the line is no JSON object of this form; the sentence says what is wrong with it.
    """
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EncodeError(f"not a message: {error}") from None
    body, content_type = found.body_base64, found.content_type
    if isinstance(found.body, msgspec.Raw):
        if body is not msgspec.UNSET:
            raise EncodeError("not a message: give body or body_base64, not both")
        body, content_type = bytes(found.body), content_type or JSON_TYPE
    if isinstance(body, msgspec.UnsetType):
        raise EncodeError("not a message: body is missing")
    return Message(
        body=body,
        key=found.key,
        headers=found.headers or NO_HEADERS,
        id=found.id if found.id is not None else new_id(),
        content_type=content_type,
    )


def render(message: WireMessage) -> bytes:
    """Return the line of a message, its end included."""
    body = message.body or b""
    line: dict[str, Any] = {"body": msgspec.Raw(body)} if _is_json(body) else {"body_base64": body}
    line |= {name: value for name in ("key", "id", "content_type") if (value := getattr(message, name))}
    if line.get("content_type") == JSON_TYPE and "body" in line:
        del line["content_type"]
    if message.headers:
        line["headers"] = dict(message.headers)
    try:
        return _encoder.encode(line) + b"\n"
    except UnicodeEncodeError:  # bytes of a foreign producer that are not UTF-8
        return _escaped(line) + b"\n"


def _escaped(line: Mapping[str, Any]) -> bytes:
    """The same with odd surrogates escaped."""
    body = line.get("body")
    rest = json.dumps({name: value for name, value in line.items() if isinstance(value, (str, dict))})
    first = (
        b'"body":' + bytes(body)
        if body is not None
        else b'"body_base64":' + _encoder.encode(line["body_base64"])
    )
    return b"{" + first + b"," + rest[1:].encode()


def _is_json(body: bytes) -> bool:
    """Whether a body can stand in a line as it is."""
    try:
        body.decode()  # a raw value is not looked into
        _any_json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return b"\n" not in body and b"\r" not in body
