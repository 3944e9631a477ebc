"""Wire of ActiveMQ: what a message is as a frame, and back.

Law: pure; a broker in between changes nothing of what is plain and gives back no message group.
"""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.backends.activemq import wire
from unimsg.backends.activemq.stomp import Frame, Parser
from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import RawHeaders
from unimsg.message import Message, WireMessage
from unimsg.spi import Settlement


def sent(message: WireMessage, *, grouped: bool = True) -> Frame:
    """The frame that leaves for a message."""
    body = message.body or b""
    lines = wire.encode(message, "/topic/VirtualTopic.d", grouped=grouped, now=1000.0)
    head = "\n".join((*lines, f"content-length:{len(body)}\n\n"))
    (frame,) = Parser(1 << 24).feed(head.encode("utf-8", "surrogateescape") + body + b"\0")
    return frame


def through(message: WireMessage) -> WireMessage:
    """What a consumer is given."""
    frame = sent(message)
    frame.headers.pop(wire.GROUP, None)
    return wire.decode(frame, priority=True)


texts = st.text(max_size=30)
names = st.text(min_size=1, max_size=20) | st.sampled_from(sorted(wire.HIDDEN))


@given(
    st.binary(max_size=30) | st.none(), st.none() | texts, texts, st.dictionaries(names, texts, max_size=4)
)
def test_a_message_comes_back_as_it_was(
    body: bytes | None, key: str | None, id_: str, headers: dict[str, str]
) -> None:
    """Any text, names with a meaning for the broker, lone surrogates and all; promise 20."""
    message = Message(body=body, key=key, id=id_, headers=headers)
    back = through(message)
    assert (back.body, back.key, back.id, dict(back.headers)) == (body, key, id_, headers)


def test_long_and_raw_headers_survive() -> None:
    """Longer than the broker's line, twice, or without a value; promise 20."""
    pairs = [("a", b"\xff"), ("a", None), ("b", b"x" * 20_000)]
    message: WireMessage = Message(body=b"", headers=RawHeaders({"a": "", "b": "x" * 20_000}, pairs))
    back = through(message)
    assert isinstance(back.headers, RawHeaders)
    assert list(back.headers.pairs) == pairs
    assert all(len(line) < wire.HEADER_LIMIT for line in wire.encode(message, "/topic/d", grouped=False))


def test_the_broker_is_told_in_its_own_words() -> None:
    """Persistent, group, priority, expiry from now, delay."""
    message: WireMessage = Message(
        body=b"", key="ann", priority=7, ttl=5.0, delay=1.5, timestamp=1.25, content_type="text/plain"
    )
    told = sent(message).headers
    assert told["persistent"] == "true"
    assert told["JMSXGroupID"] == "kann"
    assert (told["priority"], told["expires"], told["AMQ_SCHEDULED_DELAY"]) == ("7", "1005000", "1500")
    assert (told["timestamp"], told["content-type"]) == ("1250", "text/plain")
    assert wire.GROUP not in sent(message, grouped=False).headers


def test_a_copy_counts_and_keeps_all_else() -> None:
    """A retry brings the same message with one execution more, later, and no trace of the first delivery."""
    frame = sent(Message[bytes | None](body=b"x", key="k", id="1", headers={"a": "b"}))
    frame.headers |= {"message-id": "m", "ack": "a", "subscription": "0", "redelivered": "true"}
    lines = wire.copy(frame, "/queue/q", Settlement("retry", frame, None, 2.0, 3, 1.5))
    again = dict(line.split(":", 1) for line in lines[1:])
    assert not {"message-id", "ack", "subscription", "redelivered", "content-length"} & set(again)
    assert again["AMQ_SCHEDULED_DELAY"] == "2000"
    copied = Frame("MESSAGE", again, frame.body)
    assert (wire.counts(copied), wire.first_failed(copied)) == ((3, 3), 1.5)
    assert wire.decode(copied) == wire.decode(frame)
    assert wire.DELAY not in "\n".join(
        wire.copy(copied, "/queue/q", Settlement("retry", copied, None, 0.0, 4))
    )


@pytest.mark.parametrize("count", ["", "x", "-1", "9" * 5000])
def test_a_count_that_is_none_is_none(count: str) -> None:
    """Whoever wrote it."""
    assert wire.counts(Frame("MESSAGE", {wire.ATTEMPTS: count})) == (0, 1)


def test_what_a_broker_would_refuse_is_refused_before() -> None:
    """Size, priority, a header without a name; promise 19."""
    measure = wire.measure(10)
    assert measure(Message(body=b"12345", headers={"a": "b"})) == 7
    with pytest.raises(MessageTooLargeError) as refused:
        measure(Message(body=b"x" * 11))
    assert (refused.value.size, refused.value.limit) == (11, 10)
    with pytest.raises(RejectedError):
        measure(Message(body=b"", priority=10))
    with pytest.raises(RejectedError):
        measure(Message(body=b"", headers={"": "b"}))


@pytest.mark.parametrize(("source", "name"), [("aws:mq", "physicalname"), ("aws:amq", "physicalName")])
def test_an_event_of_lambda_is_decoded(source: str, name: str) -> None:
    """Both spellings; the shape is that of the documentation, read 2026-11."""
    told = {
        "messageID": "ID:b-1:1",
        "messageType": "jms/bytes-message",
        "deliveryMode": 1,
        "destination": {name: "orders"},
        "redelivered": False,
        "priority": 4,
        "timestamp": 1598827811958,
        "data": base64.b64encode(b"3DTOOW7crj51prgVLQaGQ82S48k=").decode(),
        "properties": {"unimsg-id": "1", "unimsg-key": "ann", "index": 1},
    }
    ((queue, message),) = wire.from_event({"eventSource": source, "messages": [told]})
    assert queue == "orders"
    assert (message.id, message.key, dict(message.headers)) == ("1", "ann", {"index": "1"})
    assert message.body == b"3DTOOW7crj51prgVLQaGQ82S48k="
    assert message.timestamp == 1598827811.958
