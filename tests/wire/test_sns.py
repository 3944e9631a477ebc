"""The wire of SNS, alone: what a topic takes, and the three envelopes in which AWS hands over what it published.

Law: the shapes are those that AWS publishes as samples; which one it is, the door says.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unimsg.backends.sns import wire
from unimsg.backends.sqs import wire as sqs
from unimsg.errors import DecodeError
from unimsg.message import Message, WireMessage

LAMBDA = {
    "EventVersion": "1.0",
    "EventSubscriptionArn": "arn:aws:sns:us-east-1:123456789012:sns-lambda:21be56ed-a058-49f5-8c98-aedd2564c486",
    "EventSource": "aws:sns",
    "Sns": {
        "SignatureVersion": "1",
        "Timestamp": "2019-01-02T12:45:07.000Z",
        "Signature": "tcc6faL2yUC6dgZdmrwh1Y4cGa/ebXEkAi6RibDsvpi+tE/1+82j...65r==",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-ac565b8b1a6c5d002d28.pem",
        "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
        "Message": "Hello from SNS!",
        "MessageAttributes": {
            "Test": {"Type": "String", "Value": "TestString"},
            "TestBinary": {"Type": "Binary", "Value": "TestBinary"},
        },
        "Type": "Notification",
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:sns-lambda",
        "Subject": "TestInvoke",
    },
}
"""https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html, 2026-11."""

NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "63a3f6b6-d533-4a47-aef9-fcf5cf758c76",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "Testing publish to subscribed queues",
    "Message": "Hello world!",
    "Timestamp": "2012-03-29T05:12:16.901Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEnTrFPa37tnVO0FF9Iau3MGzjlJLRfySEoWz4uZHSj6ycK4ph71Zmdv0NtJ4dC/El9FOGp3VuvchpaTraNHWhhq/OsN1HV",
    "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
}
"""https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html, 2026-11."""


def in_a_queue(notification: Any, **attributes: str) -> dict[str, Any]:
    """A record of a queue's event that holds it, as in https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html."""
    return {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": notification if isinstance(notification, str) else msgspec.json.encode(notification).decode(),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
            **attributes,
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
        "awsRegion": "us-east-2",
    }


def published(message: WireMessage, *, fifo: bool = False) -> dict[str, Any]:
    """The notification of one of our messages."""
    entry = wire.encode(message, fifo=fifo)
    attributes = {
        name: {"Type": value["DataType"], "Value": value["StringValue"]}
        for name, value in entry["MessageAttributes"].items()
    }
    return {**NOTIFICATION, "Message": entry["Message"], "MessageAttributes": attributes}


def test_an_event_of_lambda_is_the_message() -> None:
    """A binary attribute that is no base64, as in the sample itself, is what it says; promise 20."""
    message = wire.decode_event(LAMBDA)
    assert (message.body, message.id, message.key) == (b"Hello from SNS!", None, None)
    assert message.timestamp == 1546433107.0
    assert dict(message.headers) == {"Test": "TestString", "TestBinary": "TestBinary"}


def test_a_notification_in_a_queue_is_the_message_in_it() -> None:
    """The envelope is taken off, since the door says that there is one; promise 20."""
    message = wire.decode_queue_event(in_a_queue(NOTIFICATION))
    assert (message.body, message.id, message.key) == (b"Hello world!", None, None)
    assert message.timestamp == pytest.approx(1332997936.901)
    assert dict(message.headers) == {}


def test_a_notification_of_a_fifo_topic_keeps_its_group() -> None:
    """The group stands beside the envelope, as an attribute of the queue's message; promise 20."""
    record = in_a_queue(
        {**NOTIFICATION, "SequenceNumber": "10000000000000003000"}, MessageGroupId="customer-1"
    )
    assert wire.decode_queue_event(record).key == "customer-1"


def test_a_message_delivered_raw_is_a_message_of_the_queue() -> None:
    """There is no envelope: the wire of SQS reads it, and what looks like one stays a body; promise 20."""
    text = msgspec.json.encode(NOTIFICATION).decode()
    assert sqs.decode_event(in_a_queue(text)).body == text.encode()


@pytest.mark.parametrize("body", ["plain text", "[1]", '{"Type":"Notification"}', "7", ""], ids=str)
def test_what_is_no_notification_is_said_to_be_none(body: str) -> None:
    """With the bytes, for the dead letter; promise 13."""
    with pytest.raises(DecodeError) as raised:
        wire.decode_queue_event(in_a_queue(body))
    assert raised.value.raw == body.encode()


@pytest.mark.parametrize("key", [None, "k", "no legal group"])
@pytest.mark.parametrize("body", [None, b"", b"text", b"\xff\x00"])
def test_what_goes_out_comes_back_in_every_envelope(body: bytes | None, key: str | None) -> None:
    """Id, key, headers and body; promises 3, 20."""
    message: WireMessage = Message(body=body, key=key, id="i", headers={"h": "v"}, content_type="text/plain")
    notification = published(message)
    for back in (
        wire.decode_event({"EventSource": "aws:sns", "Sns": notification}),
        wire.decode_queue_event(in_a_queue(notification)),
    ):
        assert (back.body, back.key, back.id, back.content_type) == (body, key, "i", "text/plain")
        assert dict(back.headers) == {"h": "v"}


def test_an_entry_of_a_fifo_topic_has_group_and_deduplication_id() -> None:
    """As an entry of a FIFO queue has, under the names that `PublishBatch` knows; promise 4."""
    entry = wire.encode(Message(body=b"x", key="k", id="i"), fifo=True)
    assert (entry["Message"], entry["MessageGroupId"], entry["MessageDeduplicationId"]) == ("x", "k", "i")
    assert "MessageBody" not in entry


def test_an_entry_of_a_standard_topic_has_neither() -> None:
    """A key travels beside the body: a standard topic has no groups."""
    entry = wire.encode(Message(body=b"x", key="k", id="i"), fifo=False)
    assert "MessageGroupId" not in entry
    assert "MessageDeduplicationId" not in entry
