"""Our STOMP 1.2 core: what frames are made of, what is no STOMP, and what pieces cost.

Law: no I/O; the standard's sentences are the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimsg.backends.activemq.stomp import (
    HEAD_LIMIT,
    Frame,
    Parser,
    ProtocolError,
    beats,
    encode,
    escape,
    unescape,
)

LIMIT = 4 << 20

FRAMES = [
    (b"RECEIPT\nreceipt-id:7\n\n\0", Frame("RECEIPT", {"receipt-id": "7"})),
    (b"MESSAGE\r\na:b\r\n\r\nbody\0", Frame("MESSAGE", {"a": "b"}, b"body")),
    (b"MESSAGE\na:b\n\r\nbody\0", Frame("MESSAGE", {"a": "b"}, b"body")),
    (b"MESSAGE\ncontent-length:3\n\n\0\n\0\0", Frame("MESSAGE", {"content-length": "3"}, b"\0\n\0")),
    (b"MESSAGE\ncontent-length:0\n\n\0", Frame("MESSAGE", {"content-length": "0"})),
    (b"\n\r\n\nERROR\n\nno\0\n\n", Frame("ERROR", {}, b"no")),
    (b"MESSAGE\na:first\na:second\n\n\0", Frame("MESSAGE", {"a": "first"})),
    (b"MESSAGE\nack:ID\\cx\\\\y\\nz\\r\n\n\0", Frame("MESSAGE", {"ack": "ID:x\\y\nz\r"})),
    (b"MESSAGE\nurl:http://a:1\n\n\0", Frame("MESSAGE", {"url": "http://a:1"})),
    (b"MESSAGE\na: b \n\n\0", Frame("MESSAGE", {"a": " b "})),
    (b"CONNECTED\nsession:a\\d\n\n\0", Frame("CONNECTED", {"session": "a\\d"})),
    ("MESSAGE\nn\u00e4me:\u4f60\n\n\0".encode(), Frame("MESSAGE", {"n\u00e4me": "\u4f60"})),
    (b"MESSAGE\na:\xff\n\n\0", Frame("MESSAGE", {"a": "\udcff"})),
]


@pytest.mark.parametrize(("raw", "frame"), FRAMES)
def test_a_frame_is_read_as_the_standard_says(raw: bytes, frame: Frame) -> None:
    """In one piece, and byte by byte."""
    assert Parser(LIMIT).feed(raw) == [frame]
    parser = Parser(LIMIT)
    assert [found for at in range(len(raw)) for found in parser.feed(raw[at : at + 1])] == [frame]


@pytest.mark.parametrize(
    "raw",
    [
        b"MESSAGE\nno colon\n\n\0",
        b"MESSAGE\na:\\t\n\n\0",
        b"MESSAGE\na:\\\n\n\0",
        b"MESSAGE\ncontent-length:x\n\n\0",
        b"MESSAGE\ncontent-length:-1\n\n\0",
        b"MESSAGE\ncontent-length:99999999999999999999999\n\n",
        b"MESSAGE\ncontent-length:1\n\nab\0",
        b"MESSAGE\ncontent-length:4194305\n\n",
        b"MESSAGE\n\n" + b"x" * (LIMIT + 1),
        b"x" * (HEAD_LIMIT + 1),
    ],
)
def test_what_is_no_stomp_or_too_large_ends_it(raw: bytes) -> None:
    """A limit is kept before the memory is spent."""
    with pytest.raises(ProtocolError):
        Parser(LIMIT).feed(raw)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(
    st.dictionaries(texts, texts, max_size=5),
    st.binary(max_size=50),
    st.lists(st.integers(1, 9), max_size=60),
)
def test_what_is_written_is_read_again_however_it_is_cut(
    headers: dict[str, str], body: bytes, cuts: list[int]
) -> None:
    """Any text in a header, any bytes in a body, in any pieces; heart-beats between."""
    headers.pop("content-length", None)
    raw = b"\n" + encode("SEND", headers, body) + b"\n\r\n" + encode("ACK", {"id": "1"})
    parser, found = Parser(LIMIT), list[Frame]()
    for size in cuts:
        piece, raw = raw[:size], raw[size:]
        found += parser.feed(piece)
    found += parser.feed(raw)
    first, second = found
    assert first.headers.pop("content-length") == str(len(body))
    assert (first, second) == (Frame("SEND", headers, body), Frame("ACK", {"id": "1"}))


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_noise_is_a_protocol_error_or_nothing(pieces: list[bytes]) -> None:
    """Nothing else is ever raised."""
    parser = Parser(1000)
    try:
        for piece in pieces:
            parser.feed(piece)
    except ProtocolError:
        pass


def read(pieces: Sequence[bytes], limit: int) -> tuple[list[Frame], bool]:
    """The frames that pieces give, and whether they are STOMP to the end."""
    parser, found = Parser(limit), list[Frame]()
    try:
        for piece in pieces:
            found += parser.feed(piece)
    except ProtocolError:
        return found, False
    return found, True


broken = st.lists(
    st.sampled_from([raw for raw, _ in FRAMES])
    | st.binary(max_size=6)
    | st.sampled_from(
        [b"\n", b"\r\n", b"\0", b"\\", b"a:b\n", b"content-length:2\n", b"MESSAGE\n", b"x" * 70]
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=500)
@given(broken, st.data())
def test_what_is_read_does_not_depend_on_where_it_is_cut(raw: bytes, data: st.DataObject) -> None:
    """Frames and noise, whole, byte by byte and in any pieces: the same frames, and an end at the same place."""
    limit = 60
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[at:to] for at, to in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    each = read([raw[at : at + 1] for at in range(len(raw))], limit)
    some, whole = read(pieces, limit), read([raw], limit)
    assert each[1] == some[1] == whole[1]
    if whole[1]:
        assert each[0] == some[0] == whole[0]
    else:  # what a piece holds before its error is given up with the connection
        assert whole[0] == some[0][: len(whole[0])] == each[0][: len(whole[0])]


@given(st.text(max_size=40))
def test_any_text_in_a_header_comes_back(text: str) -> None:
    """Whatever is to be escaped; what travels holds no sign of the frame's own."""
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("\n\r:")


class Counting(bytearray):
    """A buffer that counts the bytes that are searched in it."""

    searched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]  # as used
        """Count, and find."""
        stop = len(self) if end is None else end
        found = super().find(sub, start, stop)
        self.searched += (stop if found < 0 else found) - start
        return found


@pytest.mark.parametrize("piece", [1, 100])
@pytest.mark.parametrize("length", ["content-length:1000000\n", ""])
def test_a_large_frame_in_small_pieces_is_searched_once(length: str, piece: int) -> None:
    """Each byte is looked at a few times at most, so 1 MB byte by byte costs no more looks than in one."""
    raw = f"MESSAGE\n{length}\n".encode() + b"x" * 1_000_000 + b"\0"
    parser = Parser(LIMIT)
    parser._buffer = buffer = Counting()
    frames = [frame for at in range(0, len(raw), piece) for frame in parser.feed(raw[at : at + piece])]
    assert [len(frame.body) for frame in frames] == [1_000_000]
    assert buffer.searched <= 2 * len(raw)


def test_escaping_leaves_plain_text_alone() -> None:
    """And what it changes comes back."""
    assert escape("plain") == unescape("plain") == "plain"
    assert escape("a:b\\c\nd\r") == "a\\cb\\\\c\\nd\\r"
    assert unescape(escape("a:b\\c\nd\r")) == "a:b\\c\nd\r"


@pytest.mark.parametrize(
    ("theirs", "agreed"),
    [("0,0", (0, 0)), ("500,2000", (2000, 1000)), ("3000,10", (1000, 3000)), ("0,7", (1000, 0))],
)
def test_heart_beats_are_the_slower_of_both(theirs: str, agreed: tuple[int, int]) -> None:
    """As the standard says; 0 of either side is none."""
    assert beats((1000, 1000), theirs) == agreed


def test_a_heart_beat_that_is_none_ends_it() -> None:
    """It is no pair of numbers."""
    with pytest.raises(ProtocolError):
        beats((1, 1), "often")
