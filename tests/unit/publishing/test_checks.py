"""Checks before the wire: the table of what is refused, with its error, and that nothing left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.publishing.support import FakeSender, publisher
from unimsg.capabilities import Capabilities
from unimsg.codecs import JSON
from unimsg.errors import CapabilityError, EncodeError, Error, MessageTooLargeError, RejectedError
from unimsg.message import WireMessage

BAD: list[tuple[dict[str, Any], str]] = [
    ({"key": 7}, "key must be text or None, not int"),
    ({"key": b"k"}, "key must be text or None, not bytes"),
    ({"id": ""}, "id must be text that is not empty"),
    ({"id": 7}, "id must be text that is not empty"),
    ({"headers": {"unimsg-x": "1"}}, "begin with 'unimsg-' are reserved"),
    ({"headers": {"Unimsg-Dead-Letter": "1"}}, "begin with 'unimsg-' are reserved"),
    ({"headers": {"": "1"}}, "a header has no name"),
    ({"headers": {"a": 1}}, "header 'a': name and value must be text, not str and int"),
    ({"headers": {1: "a"}}, "header 1: name and value must be text, not int and str"),
    ({"headers": [("a", "b")]}, "headers must map text to text, not be list"),
    ({"content_type": 3}, "content_type must be text or None, not int"),
    ({"delay": -1}, "delay must be 0 or more seconds"),
    ({"delay": float("nan")}, "delay must be 0 or more seconds"),
    ({"delay": float("inf")}, "delay must be 0 or more seconds"),
    ({"delay": timedelta(seconds=-1)}, "delay must be 0 or more seconds"),
    ({"delay": "soon"}, "delay must be seconds or a timedelta"),
    ({"ttl": 0}, "ttl must be more than 0 seconds"),
    ({"ttl": -5.0}, "ttl must be more than 0 seconds"),
    ({"ttl": "later"}, "ttl must be seconds or a timedelta"),
    ({"priority": 10}, "priority must be a whole number from 0 to 9"),
    ({"priority": -1}, "priority must be a whole number from 0 to 9"),
    ({"priority": True}, "priority must be a whole number from 0 to 9"),
    ({"priority": 1.0}, "priority must be a whole number from 0 to 9"),
    ({"timeout": 0}, "timeout must be more than 0 seconds"),
    ({"timeout": -1}, "timeout must be more than 0 seconds"),
    ({"timeout": float("nan")}, "timeout must be more than 0 seconds"),
    ({"timeout": None}, "timeout must be seconds or a timedelta"),
]


@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=[sentence[:40] for _, sentence in BAD])
async def test_bad_input_is_refused_before_the_wire(
    arguments: dict[str, Any], sentence: str, *, warm: bool
) -> None:
    """Promise 19: with the number and the fix in the error, and nothing sent."""
    sender = FakeSender()
    way = publisher(sender)
    if warm:
        await way.publish(b"x")
    with pytest.raises(RejectedError) as raised:
        await way.publish(b"x", **arguments)
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("fake 'orders': ")
    assert len(sender.batches) == warm
    await way.aclose()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"headers": {"a": "b"}}, "headers"),
        ({"delay": 5}, "delay"),
        ({"ttl": timedelta(minutes=1)}, "ttl"),
        ({"priority": 0}, "priority"),
    ],
)
async def test_what_the_backend_does_not_have_is_refused(arguments: dict[str, Any], name: str) -> None:
    """Catalogue: an absent capability refuses, names what took it and who has it, and sends nothing."""
    sender = FakeSender()
    have = Capabilities().lower("option plain=true", **{name: getattr(Capabilities(), name)})
    full = Capabilities(headers="native", delay="native", ttl=True, priority=True)
    way = publisher(sender, have=have, others={"other": full})
    with pytest.raises(CapabilityError, match="option plain=true") as raised:
        await way.publish(b"x", **arguments)
    assert raised.value.missing == (name,)
    assert "other" in str(raised.value)
    assert not sender.batches
    await way.aclose()


async def test_what_the_backend_has_is_carried() -> None:
    """Durations are seconds or a timedelta."""
    sender = FakeSender()
    way = publisher(sender)
    await way.publish(b"x", delay=timedelta(minutes=1), ttl=90, priority=9, headers={"a": "b"})
    (message,) = sender.stored
    assert (message.delay, message.ttl, message.priority, message.headers) == (60.0, 90.0, 9, {"a": "b"})
    await way.aclose()


@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
async def test_a_message_over_the_limit_is_refused_with_both_numbers(*, warm: bool) -> None:
    """Promise 19: on the encoded form, as the sender measures it."""

    def measure(message: WireMessage) -> int:
        size = len(message.body or b"")
        if size > 10:
            raise MessageTooLargeError(f"{size} bytes, the limit is 10", size=size, limit=10)
        return size

    sender = FakeSender(measure=measure)
    way = publisher(sender, codec=JSON)
    if warm:
        await way.publish("x")
    with pytest.raises(MessageTooLargeError, match="the limit is 10") as raised:
        await way.publish("123456789")
    assert (raised.value.size, raised.value.limit) == (11, 10)
    assert raised.value.destination == "orders"
    assert len(sender.batches) == warm
    assert isinstance(await way.publish("12345678"), object)
    await way.aclose()


async def test_a_body_that_does_not_fit_its_codec_is_refused() -> None:
    """Codecs: nothing was sent."""
    sender = FakeSender()
    way = publisher(sender, codec=JSON)
    with pytest.raises(EncodeError) as raised:
        await way.publish(object())
    assert isinstance(raised.value, Error)
    assert raised.value.destination == "orders"
    assert not sender.batches
    await way.aclose()


async def test_the_codec_names_the_content_type_unless_the_caller_does() -> None:
    """`Message.content_type`."""
    sender = FakeSender()
    way = publisher(sender, codec=JSON)
    await way.publish(1)
    await way.publish(1, content_type="text/special")
    assert [message.content_type for message in sender.stored] == ["application/json", "text/special"]
    await way.aclose()
