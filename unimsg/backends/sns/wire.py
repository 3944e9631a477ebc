"""Wire of SNS: what a topic publishes, and the envelopes in which SNS wraps a message when delivery is not raw.

Law: pure. Which envelope it is, the door says through which it came; a body is never looked at to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from unimsg.backends.sqs import wire as sqs
from unimsg.errors import DecodeError
from unimsg.message import WireMessage


def encode(message: WireMessage, *, fifo: bool) -> dict[str, Any]:
    """Return an entry of `PublishBatch`, without its `Id`."""
    entry = sqs.encode(message, fifo=fifo, groups=False)
    entry["Message"] = entry.pop("MessageBody")
    return entry


def decode_event(record: Mapping[str, Any]) -> WireMessage:
    """Return the message of one record that Lambda hands over of a topic (`EventSource` is `aws:sns`)."""
    return decode_envelope(record["Sns"])


def decode_queue_event(record: Mapping[str, Any]) -> WireMessage:
    """Return the message that a topic put into a queue without raw delivery, and Lambda handed over of the queue.

    Raises:
        DecodeError: the body is no notification of SNS.
    """
    text = record.get("body", "")
    group = (record.get("attributes") or {}).get("MessageGroupId")
    try:
        return decode_envelope(msgspec.json.decode(text), group=group)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise DecodeError("the body is no notification of SNS", raw=text.encode()) from error


def decode_envelope(envelope: Mapping[str, Any], *, group: str | None = None) -> WireMessage:
    """Return the message in a notification; its group stands outside, where there is one."""
    found = {
        name: {
            "DataType": value["Type"],
            "BinaryValue" if value["Type"].startswith("Binary") else "StringValue": value["Value"],
        }
        for name, value in (envelope.get("MessageAttributes") or {}).items()
    }
    sent = envelope.get("Timestamp")
    milliseconds = None if sent is None else str(round(datetime.fromisoformat(sent).timestamp() * 1000))
    return sqs.assemble(envelope["Message"], found, group=group, sent=milliseconds)
