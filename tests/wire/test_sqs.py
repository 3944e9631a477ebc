"""The wire of SQS, alone: what goes out comes back, what is foreign is left, what SQS refuses is refused here."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.backends.sqs import wire
from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import DEAD_LETTER, REDRIVE
from unimsg.message import Message, WireMessage

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True).filter(
    lambda name: name != wire.META and not name.lower().startswith("unimsg-")
)
TEXTS = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=30).filter(
    lambda text: not wire._ILLEGAL.search(text)
)
MESSAGES = st.builds(
    Message,
    body=st.none() | st.binary(max_size=200) | TEXTS.map(str.encode),
    key=st.none() | st.text(st.characters(codec="utf-8"), max_size=140),
    headers=st.dictionaries(NAMES, TEXTS, max_size=9),
    id=TEXTS,
    content_type=st.none() | TEXTS,
)


def received(entry: dict[str, Any], *, lean: bool = False) -> dict[str, Any]:
    """What `ReceiveMessage` gives of an entry; the lean transport leaves binary values as base64 text."""
    attributes = {name: dict(value) for name, value in entry["MessageAttributes"].items()}
    if lean:
        for value in attributes.values():
            if "BinaryValue" in value:
                value["BinaryValue"] = b64encode(value["BinaryValue"]).decode()
    system = {"SentTimestamp": "1500"}
    if "MessageGroupId" in entry:
        system["MessageGroupId"] = entry["MessageGroupId"]
    return {"Body": entry["MessageBody"], "MessageAttributes": attributes, "Attributes": system}


def shape(message: WireMessage) -> tuple[Any, ...]:
    return message.body, message.key, dict(message.headers), message.id, message.content_type


@given(message=MESSAGES, fifo=st.booleans(), lean=st.booleans())
def test_what_goes_out_comes_back(message: WireMessage, fifo: bool, lean: bool) -> None:
    """Body, key, headers, id and type, whatever they are; promises 3, 20."""
    entry = wire.encode(message, fifo=fifo)
    assert not wire._ILLEGAL.search(entry["MessageBody"])
    assert len(entry["MessageAttributes"]) <= wire.MOST
    assert len(entry.get("MessageGroupId", "")) <= 128
    assert len(entry.get("MessageDeduplicationId", "")) <= 128
    assert shape(wire.decode(received(entry, lean=lean))) == shape(message)


def test_a_foreign_message_is_what_it_is() -> None:
    """No id is made up, and an attribute that only has our name is a header; promise 20."""
    native = {
        "Body": "plain",
        "MessageAttributes": {
            "unimsg": {"DataType": "String", "StringValue": "not ours"},
            "n": {"DataType": "Number.int", "StringValue": "7"},
            "b": {"DataType": "Binary", "BinaryValue": b"abc"},
        },
        "Attributes": {"MessageGroupId": "g"},
    }
    message = wire.decode(native)
    assert (message.body, message.key, message.id) == (b"plain", "g", None)
    assert dict(message.headers) == {"unimsg": "not ours", "n": "7", "b": "abc"}


def test_the_types_of_foreign_attributes_survive_being_published_again() -> None:
    """As a dead letter is; promise 14."""
    found = {
        "n": {"DataType": "Number.int", "StringValue": "7"},
        "b": {"DataType": "Binary.png", "BinaryValue": b"abc"},
        "s": {"DataType": "String", "StringValue": "s"},
    }
    message = wire.decode({"Body": "x", "MessageAttributes": found})
    again = wire.encode(message, fifo=False)["MessageAttributes"]
    again.pop(wire.META)
    assert again == found


def test_our_own_headers_move_inside_when_there_is_no_attribute_left() -> None:
    """Nine headers, and it can still be buried and redriven; promise 14."""
    headers = {f"h{number}": "v" for number in range(9)} | {DEAD_LETTER: '{"reason":"x"}', REDRIVE: "{}"}
    message: WireMessage = Message(body=b"x", headers=headers)
    entry = wire.encode(message, fifo=False)
    assert len(entry["MessageAttributes"]) == wire.MOST
    assert dict(wire.decode(received(entry)).headers) == headers


@pytest.mark.parametrize(
    "headers",
    [
        {"AWS.x": "v"},
        {"amazon.x": "v"},
        {".x": "v"},
        {"x.": "v"},
        {"a..b": "v"},
        {"ü": "v"},
        {"a b": "v"},
        {"x" * 257: "v"},
        {"empty": ""},
        {"control": "a\x00"},
        {"unimsg": "v"},
        {f"h{number}": "v" for number in range(10)},
    ],
    ids=str,
)
def test_what_sqs_refuses_is_refused_before_the_wire(headers: dict[str, str]) -> None:
    """With a sentence of its own; promise 19."""
    with pytest.raises(RejectedError):
        wire.encode(Message(body=b"x", headers=headers), fifo=False)


def test_size_counts_attributes_names_and_types() -> None:
    """As SQS counts; one byte more is refused; promise 19."""
    message: WireMessage = Message(body=b"x" * 100, headers={"name": "value"}, id="i")
    entry = wire.encode(message, fifo=False)
    meta = entry["MessageAttributes"][wire.META]["StringValue"]
    size = 100 + len("nameStringvalue") + len("unimsgString") + len(meta)
    assert wire.measure(size, 1000, fifo=False, longest_delay=900)(message) == size
    with pytest.raises(MessageTooLargeError) as raised:
        wire.measure(size - 1, 1000, fifo=False, longest_delay=900)(message)
    assert (raised.value.size, raised.value.limit) == (size, size - 1)


def test_a_delay_is_rounded_up_and_one_beyond_the_longest_is_refused() -> None:
    """Never shortened; promise 11."""
    assert wire.encode(Message(body=b"x", delay=0.2), fifo=False)["DelaySeconds"] == 1
    with pytest.raises(RejectedError, match="900"):
        wire.measure(9999, 9999, fifo=False, longest_delay=900)(Message(body=b"x", delay=901))


def test_an_event_of_lambda_is_the_same_message() -> None:
    """The sample of an SQS event in https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html, 2026-11."""
    record = {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": "Test message.",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
            "MessageGroupId": "1",
        },
        "messageAttributes": {
            "myAttribute": {
                "stringValue": "myValue",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            },
            "raw": {"binaryValue": "/w==", "dataType": "Binary"},
        },
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
        "awsRegion": "us-east-2",
    }
    message = wire.decode_event(record)
    assert (message.body, message.key, message.timestamp) == (b"Test message.", "1", 1545082649.183)
    assert dict(message.headers) == {"myAttribute": "myValue", "raw": "\udcff"}
