"""A message survives being a line, whatever its bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.cli import lines
from unimsg.message import Message, WireMessage

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
json_bodies = st.recursive(st.none() | st.booleans() | st.integers() | text, st.lists, max_leaves=5).map(
    lambda value: json.dumps(value).encode()
)


@given(
    body=st.binary(max_size=200) | json_bodies,
    key=st.none() | text,
    headers=st.dictionaries(text, text, max_size=3),
    content_type=st.none() | st.sampled_from(["text/plain", "application/json"]),
)
def test_a_line_and_back(
    body: bytes, key: str | None, headers: dict[str, str], content_type: str | None
) -> None:
    """Promise 14, 20: nothing of it changes, and it is one line."""
    message = WireMessage(body=body, key=key, headers=headers, id="id-1", content_type=content_type)
    line = lines.render(message)
    back = lines.parse(line)

    assert line.count(b"\n") == 1
    assert (back.body, back.key, back.headers, back.id) == (body, key, headers, "id-1")
    assert json.loads(line)


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a":}', b"[1,]", b"1 2", b"\xff", b'"\xff"', b"[1\n]", b"nul", b"01"]
)
def test_what_is_no_json_is_base64(body: bytes) -> None:
    """A line that claims a body which is no JSON could not be read again."""
    line = lines.render(Message(body=body, id="id-1"))

    assert set(json.loads(line)) == {"body_base64", "id"}
    assert lines.parse(line).body == body


def test_bytes_that_are_no_text_are_escaped() -> None:
    """Promise 20: headers and key of a foreign producer, kept with `surrogateescape`."""
    message = WireMessage(body=b"1", key="k\udcff", headers={"h": "v\udcfe"}, id=None)
    found = json.loads(lines.render(message))

    assert found == {"body": 1, "key": "k\udcff", "headers": {"h": "v\udcfe"}}
