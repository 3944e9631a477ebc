"""B: data. What was published is what arrives, to the byte; what cannot be carried is refused before the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from unimsg import registry
from unimsg.codecs import BYTES
from unimsg.errors import CapabilityError, MessageTooLargeError, PublishManyError, RejectedError
from unimsg.message import MOST_HEADERS, Message
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import Foreign, World, eventually, gather
from unimsg.testing.faults import Hang, inject

COUNT = 100
ODD_TEXTS = (
    "ünïcödé and ελληνικά",
    "漢字 🙂 \U0001f1ea\U0001f1fa",
    " spaces at both ends ",
    'quotes " and \\ and : and ; and =',
    "a line\nand another\r\nand\ta tab",
    "\u202eright to left, e\u0301 composed",
    "",
)
"""Values of headers that some services cannot carry: they arrive as they are, or are refused."""

ENVELOPES: tuple[Mapping[str, Any], ...] = (
    {
        "Type": "Notification",
        "MessageId": "0b1f4d3c-0000-5000-8000-000000000000",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:orders",
        "Message": '{"inner": true}',
        "Timestamp": "2024-01-01T00:00:00.000Z",
        "SignatureVersion": "1",
        "MessageAttributes": {"key": {"Type": "String", "Value": "not-a-key"}},
    },
    {
        "specversion": "1.0",
        "id": "not-an-id",
        "source": "/a/user",
        "type": "a.user.event",
        "data": {"inner": True},
    },
    {"Records": [{"eventSource": "aws:sqs", "body": "inner"}]},
)
"""Bodies that look like what services and adapters wrap messages in."""


class Data(Section):
    """Section B of the catalogue."""

    async def test_a_hundred_bodies_and_headers_come_back_as_they_were(self, world: World) -> None:
        """B: any bytes, keys, and text in headers where there are some; ids tell which is which; promise 20."""
        random, client, destination = world.chance(), await world.client(), await world.destination()
        headed = world.capabilities.headers != "none"
        messages: dict[str, Message[bytes | None]] = {
            f"m{number}": Message(
                id=f"m{number}",
                body=random.randbytes(random.randrange(1, 2000)),
                key=random.choice((None, "k1", "k2", "key with spaces")),
                headers=_headers(random) if headed else {},
            )
            for number in range(COUNT)
        }

        await client.publisher(destination, codec=BYTES).publish_many(messages.values())
        gathered = await gather(client, destination, COUNT, group=world.group, codec=BYTES)

        arrived = {d.id: (d.body, d.key, dict(d.headers)) for d in gathered.deliveries}
        assert arrived == {m.id: (m.body, m.key, dict(m.headers)) for m in messages.values()}

    async def test_any_json_comes_back_equal(self, world: World) -> None:
        """B: by the default codec; types are kept, and text is not escaped away."""
        client, destination = await world.client(), await world.destination()
        values: list[Any] = [
            *(None, True, False, 0, -1, 1.5, "", "text", "ü 漢字 🙂", [], {}),
            *([1, [2, [3]]], {"a": {"b": [None, {"c": ""}]}}, 2**53, "null", "{}"),
        ]

        for number, value in enumerate(values):
            await client.publish(destination, {"number": number, "value": value})
        gathered = await gather(client, destination, len(values), group=world.group)

        arrived = {body["number"]: body["value"] for body in gathered.bodies}
        assert [repr(arrived[number]) for number in range(len(values))] == [repr(value) for value in values]

    async def test_bodies_that_are_no_text_come_back_as_they_were(self, world: World) -> None:
        """B: empty, not UTF-8, zero bytes, line ends, and what looks like another encoding; promise 20."""
        client, destination = await world.client(), await world.destination()
        bodies = [
            *(b"", b"\x00", b"\xff\xfe\xfd", bytes(range(256)), b"a\r\nb\n\n", b"\xed\xa0\x80"),
            *(b"\xef\xbb\xbfBOM", b"aGVsbG8=", b" \t ", b"\xf3\x89\x9a\xc2"),
        ]

        publisher = client.publisher(destination, codec=BYTES)
        for number, body in enumerate(bodies):
            await publisher.publish(body, id=f"m{number}")
        gathered = await gather(client, destination, len(bodies), group=world.group, codec=BYTES)

        arrived = {d.id: d.body for d in gathered.deliveries}
        assert arrived == {f"m{number}": body for number, body in enumerate(bodies)}

    async def test_the_largest_body_passes_and_one_byte_more_is_refused_before_the_wire(
        self, world: World
    ) -> None:
        """B: with size, limit and the fix in the error; promise 19."""
        largest = world.capabilities.max_message_bytes
        if largest is None:
            world.cannot("no limit is declared")
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        publisher = client.publisher(destination, codec=BYTES)

        with pytest.raises(MessageTooLargeError) as over:
            await publisher.publish(b"x" * (largest + 1))
        frame = over.value.size - (largest + 1)  # what the service counts beside the body
        fits = b"x" * (over.value.limit - frame)
        with pytest.raises(MessageTooLargeError) as just_over:
            await publisher.publish(fits + b"x")

        assert over.value.limit <= largest
        assert just_over.value.size == just_over.value.limit + 1
        assert str(just_over.value.limit) in str(just_over.value)
        assert faults.sent == []
        await publisher.publish(fits)
        gathered = await gather(client, destination, 1, group=world.group, codec=BYTES)
        assert gathered.bodies[0] == fits

    async def test_one_too_large_of_many_leaves_the_others_alone(self, world: World) -> None:
        """B: `publish_many` refuses the one and publishes the rest; promise 19."""
        largest = world.capabilities.max_message_bytes
        if largest is None:
            world.cannot("no limit is declared")
        client, destination = await world.client(), await world.destination()
        bodies = [b"first", b"x" * (largest + 1), b"last"]

        publisher = client.publisher(destination, codec=BYTES)
        with pytest.raises(PublishManyError) as raised:
            await publisher.publish_many(Message(body=body) for body in bodies)
        gathered = await gather(client, destination, 2, group=world.group, codec=BYTES)

        kinds = [type(result).__name__ for result in raised.value.results]
        assert kinds == ["Receipt", "MessageTooLargeError", "Receipt"]
        assert sorted(gathered.bodies) == [b"first", b"last"]

    @requires(headers="emulated")
    async def test_odd_text_in_headers_arrives_as_it_is_or_is_refused(self, world: World) -> None:
        """B: never changed on the way, and what is refused never left; promises 19, 20."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        carried: dict[str, str] = {}
        for number, text in enumerate(ODD_TEXTS):
            before = len(faults.sent)
            try:
                await client.publish(destination, number, id=f"m{number}", headers={"odd": text})
            except RejectedError:
                assert len(faults.sent) == before, f"{text!r} was refused after it had left"
            else:
                carried[f"m{number}"] = text

        gathered = await gather(client, destination, len(carried), group=world.group)

        assert {d.id: d.headers["odd"] for d in gathered.deliveries} == carried
        assert {"m0", "m1", "m3"} <= set(carried)

    @requires(headers="emulated")
    async def test_odd_names_of_headers_arrive_as_they_are_or_are_refused(self, world: World) -> None:
        """B: letter case, signs and other alphabets; no two names become one; promises 19, 20."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        names = (
            "Content-Type",
            "content-type",
            "x_1.2-3",
            "ünï",
            "with space",
            "a:b",
            "k",
            "id",
            "message-id",
        )
        carried: dict[str, str] = {}
        for name in names:
            before = len(faults.sent)
            try:
                await client.publish(
                    destination, name, id=f"m-{name.encode().hex()}", headers={name: "value"}
                )
            except RejectedError:
                assert len(faults.sent) == before, f"{name!r} was refused after it had left"
            else:
                carried[name] = "value"

        gathered = await gather(client, destination, len(carried), group=world.group)

        assert {d.body: dict(d.headers) for d in gathered.deliveries} == {
            name: {name: value} for name, value in carried.items()
        }
        assert "x_1.2-3" in carried

    async def test_too_many_headers_are_refused_before_the_wire(self, world: World) -> None:
        """B: one more than any service is asked to carry; promise 19."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        headers = {f"h{number}": "value" for number in range(MOST_HEADERS + 1)}

        with pytest.raises(RejectedError, match=str(MOST_HEADERS)):
            await client.publish(destination, "refused", headers=headers)
        assert faults.sent == []

        del headers["h0"]
        try:
            await client.publish(destination, "as many as allowed", headers=headers)
        except (RejectedError, CapabilityError):
            assert faults.sent == []  # this service has a lower limit, or no headers
        else:
            gathered = await gather(client, destination, 1, group=world.group)
            assert dict(gathered.deliveries[0].headers) == headers

    async def test_a_body_that_looks_like_an_envelope_is_left_alone(self, world: World) -> None:
        """B: SNS notifications, CloudEvents and Lambda events of a user are bodies as any other; promise 20."""
        client, destination = await world.client(), await world.destination()

        for envelope in ENVELOPES:
            await client.publish(destination, envelope)
        gathered = await gather(client, destination, len(ENVELOPES), group=world.group)

        def shape(body: Any) -> list[str]:
            return sorted(body)

        assert sorted(gathered.bodies, key=shape) == sorted(ENVELOPES, key=shape)
        assert {d.id for d in gathered.deliveries}.isdisjoint({"not-an-id", ENVELOPES[0]["MessageId"]})
        assert {d.key for d in gathered.deliveries} == {None}

    async def test_the_native_door_shows_what_the_service_gave(self, world: World) -> None:
        """B: `native(delivery)` of the backend's package; principle 7."""
        native = getattr(registry.plugin(world.options.scheme), "native", None)
        if native is None:
            world.cannot("this backend has no native side")
        client, destination = await world.client(), await world.destination()

        await client.publish(destination, "one")
        await client.publish(destination, "two")
        gathered = await gather(client, destination, 2, group=world.group)

        first, second = (native(delivery) for delivery in gathered.deliveries)
        assert first is not None
        assert first is not second

    async def test_the_plain_client_reads_what_we_publish(self, world: World) -> None:
        """B: the body is the body, the key its key, headers are native; promise 20."""
        if world.interop is None:
            world.cannot("there is no plain client of it here")
        client, destination = await world.client(), await world.destination()
        headers = {"colour": "blue"} if world.capabilities.headers == "native" else {}

        await client.publish(destination, {"n": 1}, key="k", headers=headers)
        (seen,) = await world.interop.receive(destination, world.group, 1)

        assert seen.body == b'{"n":1}'
        assert headers.items() <= dict(seen.headers or {}).items()
        assert seen.key in ("k", None)

    async def test_we_read_what_the_plain_client_publishes(self, world: World) -> None:
        """B: without our id and headers it is a message as any other; promise 20."""
        if world.interop is None:
            world.cannot("there is no plain client of it here")
        client, destination = await world.client(), await world.destination()
        foreign = Foreign(
            b"\xff raw", headers={"colour": "blue"} if world.capabilities.headers == "native" else {}
        )

        await world.interop.publish(destination, foreign)
        gathered = await gather(client, destination, 1, group=world.group, codec=BYTES)

        (delivery,) = gathered.deliveries
        assert delivery.body == foreign.body
        assert (foreign.headers or {}).items() <= dict(delivery.headers).items()
        assert delivery.attempt == 1

    async def test_id_timestamp_attempt_and_key_are_there(self, world: World) -> None:
        """B: the id that the receipt named, when it was published, the first attempt, the key; promises 3, 10."""
        client, destination = await world.client(), await world.destination()

        mine = await client.publish(destination, "mine", id="my-own-id", key="k")
        made = await client.publish(destination, "made")
        gathered = await gather(client, destination, 2, group=world.group)

        found = {d.body: d for d in gathered.deliveries}
        assert (found["mine"].id, mine.id) == ("my-own-id", "my-own-id")
        assert made.id is not None
        assert found["made"].id == made.id != "my-own-id"
        assert (found["mine"].key, found["made"].key) == ("k", None)
        for delivery in found.values():
            assert delivery.attempt == 1
            assert delivery.deliveries >= 1
            assert delivery.destination == destination
            assert delivery.group == world.group
            assert delivery.message.timestamp is not None
            assert abs(delivery.message.timestamp - time.time()) < 3600

    async def test_what_a_caller_changes_afterwards_was_not_published(self, world: World) -> None:
        """B: body and headers are taken when publish is called, though they leave later."""
        client, destination = world.connect(), await world.destination()
        faults, go = inject(client), asyncio.Event()
        await client.__aenter__()
        body: dict[str, Any] = {"items": [1]}
        headers = {"h": "before"} if world.capabilities.headers != "none" else {}

        faults.next("open_sender", Hang(until=go))
        publish = asyncio.create_task(client.publish(destination, body, headers=headers))
        await eventually(lambda: faults.calls["open_sender"], "it waits for a way out")
        body["items"].append(2)
        if headers:
            headers["h"] = "after"
        go.set()
        await publish
        gathered = await gather(client, destination, 1, group=world.group)

        assert gathered.bodies == [{"items": [1]}]
        assert dict(gathered.deliveries[0].headers).get("h", "before") == "before"


def _headers(random: Random) -> dict[str, str]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 äöüß漢字"
    return {
        f"h{number}": "".join(random.choices(letters, k=random.randrange(1, 40)))
        for number in range(random.randrange(5))
    }
