"""Bad input to SQS and SNS: each has an error of its own, before the wire where it can be known, and nothing is lost.

Law: calls are counted by a proxy; what was published beside a refusal is looked for afterwards.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

import unimsg
from tests.sqs.aws_faults import FaultProxy, Rule, operation
from tests.sqs.worlds import ACCOUNT, REGION, url_of
from unimsg.backends.sns.capabilities import LIMIT as TOPIC_LIMIT
from unimsg.backends.sqs.capabilities import LIMIT as QUEUE_LIMIT
from unimsg.codecs import BYTES
from unimsg.errors import (
    CapabilityError,
    Error,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
    PermissionDeniedError,
    RejectedError,
)
from unimsg.spi import Topology
from unimsg.testing.conformance.world import consuming, eventually

SENDS = ("SendMessageBatch", "PublishBatch")


@dataclass(frozen=True)
class Place:
    """A destination that nobody else uses, and the way to it through a proxy."""

    scheme: str
    url: str
    destination: str
    proxy: FaultProxy = field(repr=False)

    @property
    def group(self) -> str | None:
        """A topic has groups, a queue is one."""
        return "g" if self.scheme.startswith("sns") else None

    @property
    def limit(self) -> int:
        """Bytes of a message."""
        return TOPIC_LIMIT if self.scheme.startswith("sns") else QUEUE_LIMIT

    @property
    def sent(self) -> int:
        """Calls that published something."""
        return sum(self.proxy.passed.calls.get(op, 0) for op in SENDS)

    async def found(self, **settings: Any) -> list[Any]:
        """Return the deliveries of all that is there."""
        deliveries: list[Any] = []

        async def note(delivery: unimsg.Delivery[Any]) -> None:
            deliveries.append(delivery)

        async with unimsg.connect(self.url) as client:
            subscriber = client.subscriber(self.destination, group=self.group, **settings)
            await subscriber.run_until_idle(note)
        return deliveries


@pytest.fixture(params=["sqs", "sqs+fifo", "sns", "sns+fifo"])
async def place(request: pytest.FixtureRequest, endpoint: str, proxy: FaultProxy) -> Place:
    """Each kind of destination."""
    name = f"bad-{os.urandom(5).hex()}"
    made = Place(request.param, url_of(proxy.url, request.param), name, proxy)
    async with unimsg.connect(url_of(endpoint, request.param)) as client:
        await client.provision(Topology(destination=name, groups=[made.group] if made.group else []))
    return made


Bad = tuple[type[Error], str, Mapping[str, Any]]


def bad_messages(limit: int) -> Sequence[Bad]:
    """The error of each, what it says, and what is wrong."""
    return (
        (MessageTooLargeError, "send a reference", {"body": bytes(limit + 1)}),
        (
            MessageTooLargeError,
            "body and attributes have",
            {"body": b"x" * (limit - 300), "headers": {"h": "v" * 300}},
        ),
        (RejectedError, "SQS takes 9", {"headers": {f"h{number}": "v" for number in range(10)}}),
        (RejectedError, "is none that SQS takes", {"headers": {"a b": "v"}}),
        (RejectedError, "is none that SQS takes", {"headers": {"AWS.x": "v"}}),
        (RejectedError, "control character", {"headers": {"h": "a\x00"}}),
        (RejectedError, "is empty", {"headers": {"h": ""}}),
        (RejectedError, "lone surrogate", {"key": "\ud800"}),
    )


async def test_a_message_that_no_service_takes_is_refused_before_the_wire(place: Place) -> None:
    """With the number and the fix; those published beside it are there; promise 19."""
    bad = bad_messages(place.limit)
    async with unimsg.connect(place.url) as client:
        publisher = client.publisher(place.destination, codec=BYTES)
        for number, (error, says, message) in enumerate(bad):
            await publisher.publish(b"%d" % number, key="k")
            with pytest.raises(error, match=says) as raised:
                await publisher.publish(**{"body": b"x", "key": "k", **message})
            assert type(raised.value) is error

    assert place.sent == len(bad)
    found = {delivery.body for delivery in await place.found(codec=BYTES)}
    assert found == {b"%d" % number for number in range(len(bad))}


async def test_a_delay_that_is_too_long_is_refused_before_the_wire(place: Place) -> None:
    """A standard queue takes 900 s, the others none; promise 19."""
    bad: tuple[float, type[Error], str] = (901, RejectedError, "longer than the 900 s")
    delay, error, says = bad if place.scheme == "sqs" else (1, CapabilityError, "delay")
    async with unimsg.connect(place.url) as client:
        with pytest.raises(error, match=says):
            await client.publish(place.destination, 1, key="k", delay=delay)
    assert place.sent == 0


class Scales(FaultProxy):
    """Notes how large each call is that publishes."""

    largest = 0

    async def _send(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if operation(request, body) in SENDS:
            self.largest = max(self.largest, len(body))
        return await super()._send(request, body)


async def test_a_batch_over_the_limit_becomes_several(place: Place, endpoint: str) -> None:
    """By bytes as well as by count; promise 19."""
    part, around = place.limit // 4, 8_192
    async with Scales(endpoint) as scales, unimsg.connect(url_of(scales.url, place.scheme)) as client:
        publisher = client.publisher(place.destination, codec=BYTES)
        await publisher.publish_many(unimsg.Message(body=b"%d" % n * part, key=f"k{n}") for n in range(10))
        assert part < scales.largest <= place.limit + around
    assert sorted(delivery.body[:1] for delivery in await place.found(codec=BYTES)) == [
        b"%d" % n for n in range(10)
    ]


async def test_what_has_no_place_of_its_own_is_taken_all_the_same(place: Place) -> None:
    """No body, no legal text, and no key, on FIFO too: each is a group of its own then; promise 20."""
    bodies = (b"", None, b"\x00\xff", "\x0b\uffff".encode())
    async with unimsg.connect(place.url) as client:
        publisher = client.publisher(place.destination, codec=BYTES)
        await publisher.publish_many(unimsg.Message(body=body) for body in bodies for _ in range(2))
    deliveries = await place.found(codec=BYTES)
    assert Counter(delivery.body for delivery in deliveries) == dict.fromkeys(bodies, 2)
    assert {delivery.key for delivery in deliveries} == {None}


NAMES = ("a b", "ü", "a.b", "a.fifo.b", "x" * 257, f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders", "arn:aws:sqs")


async def test_a_name_that_no_service_has_is_refused_before_the_wire(place: Place) -> None:
    """An ARN is none, whole or not: the region is in the URL, the account in the credentials; promise 19."""
    async with unimsg.connect(place.url + "&names=any") as client:
        before = dict(place.proxy.passed.calls)
        for name in NAMES:
            with pytest.raises(OptionError, match="is no name at"):
                await client.publish(name, 1, key="k")
            with pytest.raises(OptionError, match="is no name at"):
                await client.subscriber(name, group=place.group).run(_never)
            with pytest.raises(OptionError, match="is no name at"):
                await client.provision(Topology(destination=name))
        assert place.proxy.passed.calls == before


async def test_an_arn_that_the_service_refuses_is_a_refusal(place: Place) -> None:
    """In a setting, which is the service's own and is not read here."""
    place.proxy.rules = [
        Rule("error", op="SetQueueAttributes", code="InvalidAttributeValue"),
        Rule("error", op="SetTopicAttributes", code="InvalidParameter"),
    ]
    name = "KmsMasterKeyId"
    async with unimsg.connect(place.url) as client:
        with pytest.raises(RejectedError, match="Invalid"):
            await client.provision(Topology(destination=place.destination, settings={name: "arn:aws:kms"}))


async def test_what_is_not_there_is_not_found(place: Place) -> None:
    """Neither under another name nor in another region, and the error says what to do; promise 2."""
    elsewhere = place.url.replace(REGION, "eu-west-1")
    for url, name in ((place.url, "nobody-made-this"), (elsewhere, place.destination)):
        async with unimsg.connect(url) as client:
            with pytest.raises(NotFoundError, match="provision it"):
                await client.publish(name, 1, key="k")
            with pytest.raises(NotFoundError, match="provision it"):
                await client.subscriber(name, group=place.group).run(_never)
    assert place.sent == 0


async def test_no_permission_to_publish_is_told_and_the_message_is_not_there(place: Place) -> None:
    """Certainly not published, by whichever name the services call it; promise 2."""
    async with unimsg.connect(place.url) as client:
        for code in ("AccessDenied", "AccessDeniedException", "AuthorizationError"):
            place.proxy.rules = [Rule("error", op=op, code=code, status=403) for op in SENDS]
            with pytest.raises(RejectedError, match=code) as raised:
                await client.publish(place.destination, 1, key="k")
            assert isinstance(raised.value.__cause__, PermissionDeniedError)
    assert await place.found() == []


async def test_no_permission_to_receive_is_told_and_loses_nothing(place: Place) -> None:
    """Health is red until it is given, and then the message is handled; promise 1."""
    got: list[Any] = []

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        got.append(delivery.body)

    place.proxy.rules = [Rule("error", op="ReceiveMessage", code="AccessDeniedException", status=403)]
    async with unimsg.connect(place.url) as client:
        await client.publish(place.destination, 1, key="k")
        async with consuming(client, place.destination, note, group=place.group) as subscriber:
            await eventually(lambda: "intake" in subscriber.health().reasons, "it is told")
            assert "refused" in subscriber.health().reasons["intake"]
            place.proxy.rules = []
            await eventually(lambda: got == [1], "it is handled")


async def test_an_expired_token_is_told_as_that_at_open(place: Place) -> None:
    """At once: waiting would not help; rule 7 of the contract."""
    place.proxy.expired.add("test")
    with pytest.raises(PermissionDeniedError, match="expired") as raised:
        async with unimsg.connect(place.url):
            pass
    assert type(raised.value) is PermissionDeniedError


async def _never(_delivery: unimsg.Delivery[Any]) -> None:
    raise AssertionError("nothing is here")
