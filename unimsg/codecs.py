"""Codecs: bytes <-> objects.

Law: pure. A body never stands in the sentence of an error; what does not fit is in `DecodeError.raw`.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, get_origin, is_typeddict, overload

import msgspec

from unimsg.errors import DecodeError, EncodeError, OptionError

T = TypeVar("T")

DEPTH = 128
"""Levels of lists and objects that a JSON body may have: looked at before it is decoded, the same on every platform."""
SHORT = 2 * DEPTH
"""Bytes that cannot hold more levels than that."""
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_PLAIN = bytes(set(range(256)) - set(b'[]{}"'))
_QUOTED = re.compile(r"value '.*'(?= - at `|$)", re.DOTALL)
_OPENING = frozenset(b"[{")


class Codec(Protocol[T]):
    """What turns the body of a message into bytes and back."""

    @property
    def content_type(self) -> str | None:
        """The media type it writes; None where it cannot know."""
        ...

    def encode(self, body: T, /) -> bytes | None:
        """Return the bytes; None is a tombstone, where the service has them. Raises EncodeError."""
        ...

    def decode(self, raw: bytes | None, /) -> T:
        """Return the object. Raises DecodeError."""
        ...


TOO_DEEP = f"has more than {DEPTH} levels of lists and objects: flatten it, or send it as codecs.BYTES"


def too_deep(raw: bytes) -> bool:
    """Whether JSON has more than `DEPTH` levels; what is not JSON may be said to have any number.

    Callers leave out what is too short for that. A body with few brackets costs two counts.
    """
    if raw.count(b"[") + raw.count(b"{") <= DEPTH:
        return False
    if b"\\" in raw:
        raw = _ESCAPED.sub(b"", raw)
    brackets = b"".join(raw.translate(None, _PLAIN).split(b'"')[::2])  # what stands within quotes is text
    if _shallow(brackets):
        return False
    level = 0
    for sign in brackets:
        level += 1 if sign in _OPENING else -1
        if level > DEPTH:
            return True
    return False


def _shallow(brackets: bytes) -> bool:
    """Whether a few passes take all pairs away, two levels each at most: so it is with nearly every body."""
    for _ in range(8):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return not brackets


class _JSON(Generic[T]):
    """JSON by msgspec; with a type what does not fit it is refused both ways."""

    content_type: str | None = "application/json"
    __slots__ = ("_class", "_decode", "_encode", "_type")

    def __init__(self, kind: Any) -> None:  # noqa: ANN401 - any type that msgspec knows
        self._type = kind
        self._class: type | None = None  # the only kind of type that a body can be checked against cheaply
        if isinstance(kind, type) and kind is not Any and not is_typeddict(kind):
            self._class = kind
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
        decode: Any = msgspec.json.Decoder(kind).decode  # by the type, which no checker can follow here
        self._decode: Callable[[bytes], T] = decode

    def __repr__(self) -> str:
        return "codecs.JSON" if self._type is Any else f"<JSON codec of {_name(self._type)}>"

    def encode(self, body: T, /) -> bytes:
        if self._class is not None and not isinstance(body, self._class):
            raise EncodeError(
                f"the body is a {type(body).__name__}, this publisher takes {_name(self._type)}"
            )
        try:
            raw = self._encode(body)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise EncodeError(
                f"the body, a {type(body).__name__}, cannot be written as JSON: {error}"
            ) from error
        if len(raw) > SHORT and too_deep(raw):
            raise EncodeError(f"the body {TOO_DEEP}")
        return raw

    def decode(self, raw: bytes | None, /) -> T:
        if raw is None:
            raise DecodeError("the body is a tombstone, not JSON: consume it with codecs.BYTES", raw=raw)
        if len(raw) > SHORT and too_deep(raw):
            raise DecodeError(f"the body {TOO_DEEP}", raw=raw)
        try:
            return self._decode(raw)
        except msgspec.ValidationError as error:
            fault = _QUOTED.sub(
                "value", str(error)
            )  # msgspec quotes the value, and a log would quote msgspec
            raise DecodeError(f"the body does not fit {_name(self._type)}: {fault}", raw=raw) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DecodeError(f"the body is not JSON: {error}", raw=raw) from error


class _Pydantic(Generic[T]):
    """JSON by a pydantic model."""

    content_type: str | None = "application/json"
    __slots__ = ("_model",)

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - pydantic is not imported here
        self._model = model

    def __repr__(self) -> str:
        return f"<JSON codec of {_name(self._model)}>"

    def encode(self, body: T, /) -> bytes:
        if not isinstance(body, self._model):
            raise EncodeError(
                f"the body is a {type(body).__name__}, this publisher takes {_name(self._model)}"
            )
        try:
            raw: bytes = self._model.__pydantic_serializer__.to_json(body)
        except ValueError as error:
            raise EncodeError(f"the body, a {_name(self._model)}, cannot be written as JSON") from error
        if len(raw) > SHORT and too_deep(raw):
            raise EncodeError(f"the body {TOO_DEEP}")
        return raw

    def decode(self, raw: bytes | None, /) -> T:
        if raw is None:
            raise DecodeError("the body is a tombstone, not JSON: consume it with codecs.BYTES", raw=raw)
        if len(raw) > SHORT and too_deep(raw):
            raise DecodeError(f"the body {TOO_DEEP}", raw=raw)
        try:
            return self._model.model_validate_json(raw)  # type: ignore[no-any-return]  # not imported
        except ValueError as error:
            faults = getattr(error, "errors", None)
            where = (
                ", ".join(_path(fault) for fault in faults(include_input=False, include_url=False))
                if faults
                else ""
            )
            raise DecodeError(f"the body does not fit {_name(self._model)}: {where}", raw=raw) from None


class _Bytes:
    """The bytes as they are; None is a tombstone."""

    content_type: str | None = None
    __slots__ = ()

    def __repr__(self) -> str:
        return "codecs.BYTES"

    def encode(self, body: bytes | None, /) -> bytes | None:
        if body is None or isinstance(body, bytes):
            return body
        if isinstance(body, (bytearray, memoryview)):
            return bytes(body)
        raise EncodeError(f"the body is a {type(body).__name__}, codecs.BYTES takes bytes")

    def decode(self, raw: bytes | None, /) -> bytes | None:
        return raw


class _Text:
    """Text as UTF-8."""

    content_type: str | None = "text/plain; charset=utf-8"
    __slots__ = ()

    def __repr__(self) -> str:
        return "codecs.TEXT"

    def encode(self, body: str, /) -> bytes:
        if not isinstance(body, str):
            raise EncodeError(f"the body is a {type(body).__name__}, codecs.TEXT takes str")
        try:
            return body.encode()
        except UnicodeEncodeError as error:
            raise EncodeError("the text holds a lone surrogate, which UTF-8 cannot") from error

    def decode(self, raw: bytes | None, /) -> str:
        if raw is None:
            raise DecodeError("the body is a tombstone, not text: consume it with codecs.BYTES", raw=raw)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"the body is not UTF-8: byte {error.start}", raw=raw) from error


JSON: Codec[Any] = _JSON(Any)
"""Any JSON value; the default."""
BYTES: Codec[bytes | None] = _Bytes()
"""The bytes as they are."""
TEXT: Codec[str] = _Text()
"""A str, as UTF-8."""


@overload
def resolve(codec: None) -> Codec[Any]: ...
@overload
def resolve(codec: Codec[T] | type[T]) -> Codec[T]: ...
def resolve(codec: Codec[Any] | type[Any] | None) -> Codec[Any]:
    """Return the codec for what was given as `codec=`: one, or a class to make one for; None is JSON.

    Raises:
        OptionError: neither a codec nor a class that bodies can be of.
    """
    if codec is None:
        return JSON
    if codec is bytes:
        return BYTES
    if codec is str:
        return TEXT
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(codec, type) and issubclass(codec, pydantic.BaseModel):
        return _Pydantic(codec)
    if not isinstance(codec, type) and callable(getattr(codec, "encode", None)) and hasattr(codec, "decode"):
        return codec
    if _fits(codec):
        try:
            return _JSON(codec)
        except TypeError as error:
            raise OptionError(f"codec={_name(codec)} cannot be used: {error}") from error
    raise OptionError(
        f"codec={codec!r} is not accepted: give codecs.JSON, BYTES or TEXT, a msgspec Struct, a dataclass, "
        "a TypedDict or a pydantic model"
    )


def _fits(kind: Any) -> bool:  # noqa: ANN401 - it is looked at
    if get_origin(kind) is not None or kind in (dict, list, int, float, bool):
        return True
    return isinstance(kind, type) and (
        issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or is_typeddict(kind)
    )


def _name(kind: Any) -> str:  # noqa: ANN401 - it is looked at
    return getattr(kind, "__name__", None) or str(kind)


def _path(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    return ".".join(map(str, fault["loc"])) + f": {fault['msg']}"
