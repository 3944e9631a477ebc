"""Codecs: what each writes and reads, what does not fit, and what is refused before it is decoded (promise 13)."""

from __future__ import annotations

import traceback
import tracemalloc
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg import codecs
from unimsg.codecs import BYTES, DEPTH, JSON, TEXT, resolve, too_deep
from unimsg.consuming.decoding import HEADERS, decoder
from unimsg.errors import DecodeError, EncodeError, OptionError
from unimsg.message import WireMessage


class Order(msgspec.Struct):
    id: int
    note: str = ""
    currency: Literal["EUR", "USD"] = "EUR"


@dataclass
class Payment:
    amount: float


class Reading(TypedDict):
    level: int


class Invoice(pydantic.BaseModel):
    total: int
    card: pydantic.SecretStr = pydantic.SecretStr("")


# ---------------------------------------------------------------- what fits


@pytest.mark.parametrize(
    ("codec", "body", "raw"),
    [
        (None, {"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'.encode()),
        (JSON, 7, b"7"),
        (Order, Order(1, "x"), b'{"id":1,"note":"x","currency":"EUR"}'),
        (Payment, Payment(1.5), b'{"amount":1.5}'),
        (Reading, {"level": 3}, b'{"level":3}'),
        (Invoice, Invoice(total=3), b'{"total":3,"card":""}'),
        (dict[str, int], {"a": 1}, b'{"a":1}'),
        (list[Order], [Order(1)], b'[{"id":1,"note":"","currency":"EUR"}]'),
        (int, 5, b"5"),
        (BYTES, b"\x00\xff", b"\x00\xff"),
        (bytes, b"x", b"x"),
        (BYTES, None, None),
        (TEXT, "grüß", "grüß".encode()),
        (str, "x", b"x"),
    ],
)
def test_there_and_back(codec: Any, body: Any, raw: bytes | None) -> None:
    found = resolve(codec)
    assert found.encode(body) == raw
    assert found.decode(raw) == body


@pytest.mark.parametrize("body", [bytearray(b"x"), memoryview(b"x")])
def test_bytes_in_other_forms_are_bytes(body: Any) -> None:
    assert BYTES.encode(body) == b"x"


@pytest.mark.parametrize(
    ("codec", "content_type"),
    [
        (JSON, "application/json"),
        (Order, "application/json"),
        (Invoice, "application/json"),
        (TEXT, "text/plain; charset=utf-8"),
        (BYTES, None),
    ],
)
def test_a_codec_says_what_it_writes(codec: Any, content_type: str | None) -> None:
    assert resolve(codec).content_type == content_type


def test_one_made_by_hand_is_taken_as_it_is() -> None:
    class Reverse:
        content_type = "application/x-reverse"

        def encode(self, body: str, /) -> bytes:
            return body[::-1].encode()

        def decode(self, raw: bytes | None, /) -> str:
            return (raw or b"").decode()[::-1]

    reverse = Reverse()
    assert resolve(reverse) is reverse


# ---------------------------------------------------------------- what does not


@pytest.mark.parametrize(
    ("codec", "body", "sentence"),
    [
        (JSON, object(), "a object, cannot be written as JSON"),
        (JSON, {1: {2: object()}}, "cannot be written as JSON"),
        (Order, {"id": 1}, "the body is a dict, this publisher takes Order"),
        (Order, Payment(1.0), "the body is a Payment, this publisher takes Order"),
        (Payment, 1.0, "the body is a float, this publisher takes Payment"),
        (Invoice, {"total": 1}, "the body is a dict, this publisher takes Invoice"),
        (BYTES, "text", "the body is a str, codecs.BYTES takes bytes"),
        (TEXT, b"bytes", "the body is a bytes, codecs.TEXT takes str"),
        (TEXT, "\ud800", "lone surrogate"),
    ],
)
def test_what_cannot_be_written(codec: Any, body: Any, sentence: str) -> None:
    with pytest.raises(EncodeError) as raised:
        resolve(codec).encode(body)
    assert sentence in str(raised.value)


PRIVATE = "4111-1111"
"""A body never stands in a sentence."""


@pytest.mark.parametrize(
    ("codec", "raw", "sentence"),
    [
        (JSON, b"{not json 4111-1111", "the body is not JSON"),
        (JSON, b"", "the body is not JSON"),
        (JSON, b'"\xff"', "the body is not JSON"),
        (JSON, None, "the body is a tombstone, not JSON: consume it with codecs.BYTES"),
        (Order, b'{"id": "4111-1111"}', "the body does not fit Order"),
        (Order, b'{"id": 1, "currency": "4111-1111"}', "Order: Invalid enum value - at `$.currency`"),
        (Order, b"{}", "the body does not fit Order"),
        (Payment, b'{"amount": "4111-1111"}', "the body does not fit Payment"),
        (Reading, b"[]", "the body does not fit Reading"),
        (Invoice, b'{"total": "4111-1111"}', "the body does not fit Invoice: total: "),
        (Invoice, b"4111-1111", "the body does not fit Invoice"),
        (Invoice, None, "the body is a tombstone, not JSON"),
        (int, b"1.5", "the body does not fit int"),
        (TEXT, b"\xff4111-1111", "the body is not UTF-8: byte 0"),
        (TEXT, None, "the body is a tombstone, not text"),
    ],
)
def test_what_cannot_be_read(codec: Any, raw: bytes | None, sentence: str) -> None:
    with pytest.raises(DecodeError) as raised:
        resolve(codec).decode(raw)
    assert sentence in str(raised.value)
    assert raised.value.raw == raw
    assert PRIVATE not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("codec", [object(), 7, "json", object, lambda: None, OptionError])
def test_what_is_no_codec(codec: Any) -> None:
    with pytest.raises(OptionError, match=r"give codecs\.JSON, BYTES or TEXT"):
        resolve(codec)


# ---------------------------------------------------------------- bounds


def nested(levels: int) -> bytes:
    """Lists and objects in turn."""
    opening = b'[{"a":' * (levels // 2) + b"[" * (levels % 2)
    return opening + b"1" + b"]" * (levels % 2) + b"}]" * (levels // 2)


@pytest.mark.parametrize("codec", [JSON, resolve(Order), resolve(Invoice), resolve(list[Any])])
def test_deeper_than_the_cap_is_refused_before_it_is_decoded(codec: Any) -> None:
    """The same number on every platform and with every library."""
    with pytest.raises(DecodeError, match=f"has more than {DEPTH} levels"):
        codec.decode(nested(DEPTH + 1))
    with pytest.raises(DecodeError, match=f"has more than {DEPTH} levels"):
        codec.decode(b"[" * 1_000_000)


def test_as_deep_as_the_cap_is_read_and_written() -> None:
    body = JSON.decode(nested(DEPTH))
    assert JSON.encode(body) == nested(DEPTH)
    with pytest.raises(EncodeError, match="flatten it"):
        JSON.encode([body])


def test_a_bomb_is_refused_without_being_built() -> None:
    bomb = b"[" * 5_000_000
    tracemalloc.start()
    with pytest.raises(DecodeError):
        JSON.decode(bomb)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 3 * len(bomb)


def depth(value: Any) -> int:
    """Levels of lists and objects."""
    if isinstance(value, (list, dict)):
        inside = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inside), default=0)
    return 0


TREES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)


@given(TREES, st.integers(0, DEPTH + 5), st.text('[]{}"\\a', max_size=300))
def test_depth_is_counted_outside_of_text_only(tree: Any, around: int, text: str) -> None:
    for _ in range(around):
        tree = [tree, text]
    raw = msgspec.json.encode(tree)
    assert too_deep(raw) is (depth(tree) > DEPTH)


def test_a_body_over_max_body_is_refused_before_the_codec_sees_it() -> None:
    decode = decoder(codecs.BYTES, 10)
    assert decode(WireMessage(body=b"x" * 10)) == b"x" * 10
    assert decode(WireMessage(body=None)) is None
    with pytest.raises(DecodeError, match="11 bytes, at most 10 are decoded: raise max_body="):
        decode(WireMessage(body=b"x" * 11))


def test_more_headers_than_the_cap_are_refused() -> None:
    decode = decoder(codecs.BYTES, 10)
    headers = {str(number): "" for number in range(HEADERS)}
    assert decode(WireMessage(body=b"", headers=headers)) == b""
    with pytest.raises(DecodeError, match=f"has {HEADERS + 1} headers, at most {HEADERS}"):
        decode(WireMessage(body=b"", headers={**headers, "more": ""}))
