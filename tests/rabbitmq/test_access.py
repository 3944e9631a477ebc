"""On a real broker: ways in, mistakes with an error of their own, provisioning, and beside plain pika.

Law: rule 7 of the contract: what is wrong with who we are is permanent at the first open, with its cause.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pika
import pytest
from pika.spec import BasicProperties

import unimsg
import unimsg.backends.rabbitmq
from tests.chaos.proxy import CHUNK, Proxy
from tests.rabbitmq.conftest import ignore, name, provided
from tools.brokers.rabbitmq import PASSWORD, USER
from unimsg import codecs
from unimsg.errors import (
    CapabilityError,
    ConnectError,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
    PermissionDeniedError,
    RejectedError,
    TimedOutError,
    UnroutableError,
)
from unimsg.spi import Topology
from unimsg.testing.conformance.world import eventually, gather


async def works(url: str) -> None:
    """A message goes out and comes back."""
    destination = await provided(url)
    async with unimsg.connect(url) as client:
        await client.publish(destination, "hello")
        got: list[object] = []

        async def note(delivery: unimsg.Delivery[object]) -> None:
            got.append(delivery.body)

        await client.subscriber(destination, group="g").run_until_idle(note)
    assert got == ["hello"]


async def test_tls_with_an_authority_of_our_own(tls: str, certificates: Path) -> None:
    """The node is who it says, by its name."""
    await works(f"amqps://{USER}:{PASSWORD}@{tls}?ca={certificates}/ca.pem")


async def test_a_password_from_a_file(place: str, tmp_path: Path) -> None:
    """Its last line may end."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")

    await works(f"amqp://{USER}@{place}?password_file={secret}")


async def test_the_next_node_is_asked_when_one_does_not_answer(place: str) -> None:
    """In the same attempt."""
    await works(f"amqp://{USER}:{PASSWORD}@127.0.0.1:1,{place}")


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        (f"amqp://{USER}:wrong@{{place}}", PermissionDeniedError, "password"),
        (f"amqp://nobody:{PASSWORD}@{{place}}", PermissionDeniedError, "password"),
        (f"amqp://{USER}:{PASSWORD}@{{place}}/nowhere", NotFoundError, "nowhere"),
        ("amqp://127.0.0.1:1", ConnectError, "reached"),
        (f"amqps://{USER}:{PASSWORD}@{{tls}}", OptionError, "ca="),
        (f"amqps://{USER}:{PASSWORD}@{{place}}?tls=insecure", OptionError, "TLS"),
        (f"amqp://{USER}:{PASSWORD}@{{tls}}", ConnectError, "reached"),
    ],
)
async def test_each_mistake_has_an_error_of_its_own(
    place: str, tls: str, address: str, error: type[Exception], says: str
) -> None:
    """Within moments, and the secret is in none of them."""
    async with asyncio.timeout(5):
        with pytest.raises(error, match=says) as raised:
            async with unimsg.connect(address.format(place=place, tls=tls)):
                pass
    assert type(raised.value) is error
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    ("query", "message", "error", "says"),
    [
        ("", {"headers": {"h" * 256: "v"}}, RejectedError, "255"),
        ("", {"headers": {"h": "v" * 130_000}}, RejectedError, "one frame"),
        ("?priority=true", {"priority": 256}, RejectedError, "0 to 9"),
        ("", {"priority": 1}, CapabilityError, "priority"),
        ("", {"delay": 1}, CapabilityError, "delay"),
        ("?max_body=10B", {"headers": {}}, MessageTooLargeError, "10"),
    ],
)
async def test_what_the_server_would_refuse_is_refused_before(
    url: str, query: str, message: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Promise 19: the next message goes out on the same channel as if nothing had been."""
    destination = await provided(url + query)
    async with asyncio.timeout(5), unimsg.connect(url + query) as client:
        await client.publish(destination, "1")
        with pytest.raises(error, match=says) as raised:
            await client.publish(destination, "more than ten", **message)
        await client.publish(destination, "2")
    assert type(raised.value) is error


async def test_no_prefetch_is_no_limit_and_is_refused(url: str) -> None:
    """Promise 18: zero means endless to the server."""
    async with unimsg.connect(url) as client:
        with pytest.raises(OptionError, match="prefetch"):
            client.subscriber("d", group="g", prefetch=0)


class Disguised(Proxy):
    """A proxy behind which the server is another product."""

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await reader.read(CHUNK)
        writer.write(greeting.replace(b"RabbitMQ", b"OtherMQs"))
        await super()._pass(reader, writer)


async def test_a_server_that_nobody_knows_is_taken_as_it_is(
    place: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning names it; nothing is lost for it."""
    destination = await provided(url)
    async with (
        Disguised(int(place.rpartition(":")[2])) as proxy,
        unimsg.connect(f"amqp://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}") as client,
    ):
        await client.publish(destination, "x")
        got = await gather(client, destination, 1, group="g")
    assert got.bodies == ["x"]
    assert "no RabbitMQ that we know: 'OtherMQs'" in caplog.text


@pytest.mark.parametrize("silent", [False, True], ids=["another-protocol", "silent"])
async def test_a_server_that_does_not_shake_hands_cannot_be_reached(silent: bool) -> None:
    """It answers in AMQP 1.0 and hangs up, or not at all; no socket stays behind."""
    connections: list[asyncio.StreamReader] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        await reader.readexactly(8)
        if not silent:
            writer.write(b"AMQP\x00\x01\x00\x00")
            writer.write_eof()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(5):
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ConnectError, TimedOutError)):
            async with unimsg.connect(f"amqp://127.0.0.1:{port}?open_timeout=1s"):
                pass
        await eventually(lambda: all(reader.at_eof() for reader in connections), "its end was told")


async def test_what_is_not_there_is_not_found(url: str) -> None:
    """Exchange and queue; nothing is made unasked."""
    destination = await provided(url)
    async with unimsg.connect(url) as client:
        with pytest.raises(NotFoundError):
            await client.publish(name(), "x")
        with pytest.raises(NotFoundError):
            await client.subscriber(destination, group="other").run_until_idle(ignore)


async def test_without_a_queue_a_message_is_unroutable(url: str) -> None:
    """Promise 2: `mandatory` tells; the server alone would have confirmed it."""
    destination = name()
    async with unimsg.connect(url) as client:
        await client.provision(Topology(destination=destination))
        with pytest.raises(UnroutableError, match="provision a group"):
            await client.publish(destination, "x")


async def test_order_is_refused_on_a_queue_that_cannot_keep_it(url: str) -> None:
    """Principle 1: a queue without a single active consumer would share the messages of a key."""
    destination = await provided(url)
    async with unimsg.connect(f"{url}?ordering=key") as client:
        with pytest.raises(OptionError, match="x-single-active-consumer"):
            await client.subscriber(destination, group="g").run_until_idle(ignore)


async def test_an_argument_that_is_not_ours_does_not_hide_the_order(url: str) -> None:
    """A queue may have a limit that we know nothing of."""
    ordered = f"{url}?ordering=key"
    destination = await provided(ordered, **{"max-length": "1000", "overflow": "reject-publish"})
    async with unimsg.connect(ordered) as client:
        await client.subscriber(destination, group="g").run_until_idle(ignore)


async def test_drift_shows_all_that_differs_with_both_sides(url: str) -> None:
    """What there is and what was wanted, though the server tells one at a time; nothing of it is changed."""
    destination = await provided(f"{url}?queues=classic", **{"max-length": "5"})
    wanted = Topology(destination=destination, groups=["g", "h"], settings={"exchange": "topic"})
    steps: list[tuple[Literal["existing", "ensure"], str]] = [
        ("existing", "missing"),
        ("ensure", "created"),
        ("existing", "present"),
    ]
    async with unimsg.connect(f"{url}?ordering=key") as client:
        for mode, state in steps:
            drifts = {drift.what: drift for drift in await client.provision(wanted, mode=mode)}

            exchange, queue, other = (
                drifts[it] for it in (f"destination {destination}", "group g", "group h")
            )
            assert (exchange.state, exchange.detail) == ("differs", "type: fanout, not topic")
            assert queue.state == "differs"
            assert {"x-queue-type: classic, not quorum", "x-max-length: 5, not none"} <= set(
                queue.detail.split("; ")
            )
            assert "x-single-active-consumer: none, not true" in queue.detail
            assert other.state == state


async def test_beside_plain_pika_both_ways(url: str) -> None:
    """Promise 20: body, headers, id and key are native; a foreign message keeps what its sender gave it."""
    destination = await provided(url)

    def exchange() -> tuple[BasicProperties, str, bytes]:
        with pika.BlockingConnection(pika.URLParameters(f"{url}/%2F")) as connection:
            channel = connection.channel()
            method, properties, body = channel.basic_get(f"{destination}.g", auto_ack=True)
            foreign = BasicProperties(
                message_id="theirs", correlation_id="c", headers={"n": 1}, content_type="text/plain"
            )
            channel.basic_publish(destination, "key", b"\xff", foreign)
            return properties, method.routing_key, body

    async with unimsg.connect(url) as client:
        await client.publish(destination, {"a": 1}, id="mine", key="k", headers={"h": "ü"})
        properties, key, body = await asyncio.to_thread(exchange)
        got: list[unimsg.Delivery[bytes | None]] = []

        async def note(delivery: unimsg.Delivery[bytes | None]) -> None:
            got.append(delivery)

        await client.subscriber(destination, group="g", codec=codecs.BYTES).run_until_idle(note)

    assert (properties.message_id, key, body) == ("mine", "k", b'{"a":1}')
    assert (properties.headers, properties.delivery_mode) == ({"h": "ü"}, 2)
    (delivery,) = got
    assert (delivery.id, delivery.key, delivery.body) == ("theirs", "key", b"\xff")
    assert (dict(delivery.headers), delivery.message.content_type) == ({"n": "1"}, "text/plain")
    assert unimsg.backends.rabbitmq.native(delivery)[1].correlation_id == "c"
