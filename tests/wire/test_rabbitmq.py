"""RabbitMQ's wire without a broker: messages and properties, what is refused, counts, the event of a Lambda.

Law: pure functions against tables, and by search; properties go through pika's own encoding and back.
"""

from __future__ import annotations

import base64
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import BasicProperties

from unimsg.backends.rabbitmq import ladder, wire
from unimsg.errors import MessageTooLargeError, RejectedError
from unimsg.headers import RawHeaders
from unimsg.message import Message, WireMessage
from unimsg.spi import Settlement

texts = st.text(max_size=20)
names = st.text(alphabet=string.ascii_letters + "-é", min_size=1, max_size=10).filter(
    lambda name: name not in wire.OURS
)
messages = st.builds(
    Message[bytes | None],
    body=st.one_of(st.none(), st.binary(max_size=30)),
    key=st.one_of(st.none(), texts, st.just("k" * 300), st.just("\udcff")),
    headers=st.dictionaries(names, st.one_of(texts, st.just("\udcff raw")), max_size=4),
    id=st.one_of(st.none(), texts, st.just("i" * 300)),
    content_type=st.one_of(st.none(), st.just("application/json")),
    timestamp=st.one_of(st.none(), st.integers(0, 1 << 32).map(float)),
    priority=st.one_of(st.none(), st.integers(0, 9)),
)


def carried(message: WireMessage) -> WireMessage:
    """Send a message through pika's encoding."""
    key, properties = wire.encode(message)
    raw = b"".join(BasicProperties(**properties).encode())
    return wire.decode("orders", key, BasicProperties().decode(raw), message.body or b"")


@given(messages)
def test_what_goes_out_comes_back(message: WireMessage) -> None:
    """Promise 20: body, key, headers, id, type, time and priority, also where AMQP's properties are too short."""
    assert carried(message) == message


def test_a_foreign_message_has_what_its_sender_gave_it() -> None:
    """Promise 20: numbers, times, bytes, tables and nothing are shown as text; the server's own are not shown."""
    table = {
        "n": 7,
        "yes": True,
        "raw": b"\xff",
        "none": None,
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "tree": {"a": [1, None]},
        "x-death": [{"count": 3}],
        "x-first-death-queue": "q",
        "x-delivery-count": 4,
    }

    message = wire.decode("", "orders.g", BasicProperties(headers=table), b"")

    assert (message.id, message.key, message.body) == (None, None, b"")
    assert dict(message.headers) == {
        "n": "7",
        "yes": "true",
        "raw": "\udcff",
        "none": "",
        "when": "2026-01-02T00:00:00+00:00",
        "tree": '{"a":[1,null]}',
    }
    assert isinstance(message.headers, RawHeaders)
    assert (
        wire.encode(message)[1]["headers"] | {"raw": b"\xff", "none": None}
        == wire.encode(message)[1]["headers"]
    )


def test_a_ttl_is_an_expiration_in_milliseconds() -> None:
    """Of the message, as the property is."""
    assert wire.encode(Message(body=b"", ttl=1.5))[1]["expiration"] == "1500"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Message(body=b"x" * 101), "101"),
        (Message(body=b"", headers={"h" * 256: "v"}), "255"),
        (Message(body=b"", headers={"\udcff": "v"}), "header name"),
        (Message(body=b"", headers={"": "v"}), "header name"),
        (Message(body=b"", headers={"h": "v" * wire.HEADERS_LIMIT}), str(wire.HEADERS_LIMIT)),
        (Message(body=b"", content_type="t" * 256), "content type"),
        (Message(body=b"", priority=256), "priority"),
        (Message(body=b"", priority=-1), "priority"),
    ],
)
def test_what_a_server_would_refuse_is_refused_before(message: WireMessage, says: str) -> None:
    """Promise 19: a frame that is too large, or a short string that is none, would end the connection."""
    with pytest.raises(RejectedError, match=says):
        wire.measure(100)(message)


def test_the_largest_body_is_taken() -> None:
    """Promise 19: the limit itself is allowed, headers do not count."""
    assert wire.measure(100)(Message(body=b"x" * 100)) == 100
    with pytest.raises(MessageTooLargeError) as over:
        wire.measure(100)(Message(body=b"x" * 101))
    assert (over.value.size, over.value.limit) == (101, 100)


@pytest.mark.parametrize(
    ("table", "redelivered", "counted"),
    [
        (None, False, (0, 1)),
        (None, True, (0, 2)),
        ({wire.DELIVERY_COUNT: 4}, True, (0, 5)),
        ({wire.ATTEMPTS: 2, wire.DELIVERIES: 3}, False, (2, 4)),
        ({wire.ATTEMPTS: 2, wire.DELIVERIES: 3, wire.DELIVERY_COUNT: 1}, True, (2, 5)),
        ({wire.ATTEMPTS: "many"}, False, (0, 1)),
    ],
)
def test_attempts_are_ours_and_deliveries_the_servers(
    table: dict[str, Any] | None, redelivered: bool, counted: tuple[int, int]
) -> None:
    """Promise 10: a quorum queue counts what came back, a classic one only says that something did."""
    assert wire.counts(BasicProperties(headers=table), redelivered=redelivered) == counted


class Deliver:
    """As much of `Basic.Deliver` as a copy needs."""

    exchange, routing_key, redelivered = "orders", "k", False


def test_a_copy_for_a_retry_is_the_message_one_attempt_further() -> None:
    """Promises 9 and 10: nothing of it changes but our counts; it keeps the key that its routing key was."""
    before = BasicProperties(
        message_id="m", correlation_id="c", headers={"h": 7, "x-death": [], wire.ATTEMPTS: 1}
    )

    parcel = ladder.copy("orders.g", (Deliver, before, b"body"), Settlement("retry", 1, None, 2.5, 2, 1.5))

    assert (parcel.routing_key, parcel.body) == ("orders.g", b"body")
    assert parcel.properties["expiration"] == "2500"
    assert (parcel.properties["message_id"], parcel.properties["correlation_id"]) == ("m", "c")
    assert parcel.properties["headers"] == {
        "h": 7,
        wire.KEY: "k",
        wire.ATTEMPTS: 2,
        wire.FIRST_FAILED: 1500,
        wire.DELIVERIES: 1,
        wire.RUNG: 4,
    }
    again = wire.decode("", "orders.g", BasicProperties(**parcel.properties), b"body")
    assert (again.key, dict(again.headers)) == ("k", {"h": "7"})


@pytest.mark.parametrize(("delay", "rung"), [(0, 1), (1, 1), (1.01, 2), (64, 64), (65, 128), (4096, 4096)])
def test_a_delay_waits_on_the_rung_that_holds_it(delay: float, rung: int) -> None:
    """Promise 11: the rung's own limit never shortens it."""
    assert ladder.rung_of(delay) == rung


def test_the_event_of_a_lambda_is_decoded() -> None:
    """The sample of the AWS documentation (with-mq.html), shortened: headers are lists of bytes or numbers."""
    event = {
        "eventSource": "aws:rmq",
        "eventSourceArn": "arn:aws:mq:us-west-2:111122223333:broker:pizzaBroker:b-9bcfa592",
        "rmqMessagesByQueue": {
            "pizzaQueue::/": [
                {
                    "basicProperties": {
                        "contentType": "text/plain",
                        "contentEncoding": None,
                        "headers": {
                            "header1": {"bytes": [118, 97, 108, 117, 101, 49]},
                            "umlaut": {"bytes": [-61, -92]},
                            "numberInHeader": 10,
                        },
                        "deliveryMode": 1,
                        "priority": 34,
                        "messageId": "m-1",
                        "timestamp": "Jan 1, 1970, 12:33:41 AM",
                        "bodySize": 80,
                    },
                    "redelivered": False,
                    "data": base64.b64encode(b'{"timeout":0}').decode(),
                }
            ]
        },
    }

    ((queue, vhost, message),) = wire.from_event(event)

    assert (queue, vhost) == ("pizzaQueue", "/")
    assert (message.body, message.id, message.content_type) == (b'{"timeout":0}', "m-1", "text/plain")
    assert dict(message.headers) == {"header1": "value1", "umlaut": "ä", "numberInHeader": "10"}
    assert message.timestamp == 2021.0
