"""Kafka's wire without a broker: records and messages, sizes, and the partition of a key.

Law: pure functions against tables, and by search. The partitions are those of Java's client: vectors of its own tests.
"""

from __future__ import annotations

import string

import pytest
from aiokafka.partitioner import murmur2 as theirs
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from unimsg.backends.kafka import wire
from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import RawHeaders
from unimsg.message import Message, WireMessage

# org.apache.kafka.common.utils.UtilsTest.testMurmur2, Apache Kafka 4.4, as signed 32-bit numbers
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(alphabet=string.ascii_letters + "-é", min_size=1, max_size=10)


@pytest.mark.parametrize(("key", "hashed"), VECTORS.items())
def test_murmur2_is_javas(key: bytes, hashed: int) -> None:
    """Promise 4 across languages: a key has one partition, whoever sends it."""
    assert wire.murmur2(key) == hashed & 0xFFFFFFFF


@given(st.binary(max_size=64))
def test_murmur2_agrees_with_the_client_library(key: bytes) -> None:
    """Keys of any length, the last one to three bytes included."""
    assert wire.murmur2(key) == theirs(key) & 0xFFFFFFFF


def test_a_key_is_placed_as_java_places_it() -> None:
    """The sign bit is cut off, then the rest by the number of partitions."""
    place = wire.placing(10)

    assert place("foobar") == ((-790332482 & 0x7FFFFFFF) % 10, b"foobar")
    assert place("") == ((wire.murmur2(b"") & 0x7FFFFFFF) % 10, b"")


@given(
    st.one_of(st.none(), st.binary(max_size=30)),
    st.one_of(st.none(), texts),
    st.dictionaries(names, texts, max_size=4),
    st.one_of(st.none(), texts.filter(bool)),
    st.one_of(st.none(), st.just("application/json")),
)
@example(b"x", None, {"content-type": "mine", "unimsg-id": "odd"}, "id-1", "text/plain")
def test_what_is_encoded_comes_back(
    body: bytes | None, key: str | None, headers: dict[str, str], id_: str | None, content_type: str | None
) -> None:
    """Promise 20; also headers that are called as ours are."""
    if id_ is None:
        headers.pop("unimsg-id", None)  # an id is all that a foreign record with this header could mean
        content_type = None
    message = Message(
        body=body, key=key, headers=headers, id=id_, content_type=content_type, timestamp=12.345
    )
    raw = None if key is None else wire.placing(3)(key)[1]

    back = wire.decode(raw, message.body, wire.encode(message), wire.milliseconds(message.timestamp) or 0)

    assert back == message


def test_a_foreign_record_keeps_what_text_cannot_hold() -> None:
    """Promise 20: bytes that are not UTF-8, names that come twice, headers without a value, no id, no key."""
    pairs = [("trace", b"\xff"), ("trace", b"b"), ("none", None), ("content-type", b"text/plain")]

    message = wire.decode(b"\xfe", None, pairs, -1)

    assert isinstance(message.headers, RawHeaders)
    assert (message.id, message.key, message.body, message.timestamp) == (None, "\udcfe", None, None)
    assert message.headers == {"trace": "b", "none": "", "content-type": "text/plain"}
    assert wire.encode(message) == pairs
    assert wire.placing(1)("\udcfe")[1] == b"\xfe"


@given(
    st.binary(max_size=2000),
    st.one_of(st.none(), texts),
    st.dictionaries(names, texts, max_size=6),
    texts.filter(bool),
)
def test_a_record_is_never_larger_than_it_is_measured(
    body: bytes, key: str | None, headers: dict[str, str], id_: str
) -> None:
    """Promise 19: batches are cut by what is measured, and one that is too large would spoil a producer."""
    message: WireMessage = Message(
        body=body, key=key, headers=headers, id=id_, content_type="application/json", timestamp=1e9
    )
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=1 << 20
    )
    builder.append(
        0,
        timestamp=wire.milliseconds(message.timestamp),
        key=None if key is None else key.encode(),
        value=body,
        headers=wire.encode(message),
    )

    assert builder.size() - wire.BATCH_OVERHEAD <= wire.measure(1 << 20, 1 << 20)(message)


def test_one_byte_too_many_is_refused() -> None:
    """Promise 19: with the number and the fix."""
    measure = wire.measure(limit=100, max_body=90)
    message: WireMessage = Message(body=b"x" * 90, key="k" * 6, headers={"a": "bcd"})
    measure(message)

    with pytest.raises(MessageTooLargeError, match=r"101 bytes, the limit is 90: .* max_body=") as refused:
        measure(Message(body=b"x" * 90, key="k" * 7, headers={"a": "bcd"}))
    assert (refused.value.size, refused.value.limit) == (101, 90)
    with pytest.raises(MessageTooLargeError):
        measure(Message(body=b"x" * 91))
    with pytest.raises(MessageTooLargeError):
        measure(Message(body=b"x" * 90, key="é" * 6))


def test_a_header_name_that_is_no_text_is_refused() -> None:
    """Promise 19: before the wire, since the client library would fail there for the whole batch."""
    with pytest.raises(RejectedError, match="choose another"):
        wire.measure(100, 100)(Message(body=b"", headers={"\udcff": "x"}))
