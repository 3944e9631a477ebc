"""A broker of its own that runs short, is impatient, has limits and users: what callers are told, and that all goes on.

Law: one broker for the file; what it does is the fault, nothing here waits for a time to pass but for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import unimsg
from tests.chaos.proxy import Proxy
from tests.rabbitmq.conftest import bare, provided, rest, take
from tools.brokers.rabbitmq import PASSWORD, READER, READER_PASSWORD, USER, Broker
from tools.brokers.services import HOME
from unimsg import RetryPolicy, codecs
from unimsg.errors import (
    MessageTooLargeError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RejectedError,
    TimedOutError,
)
from unimsg.spi import Settlement, Topology
from unimsg.testing.conformance.world import consuming, eventually, gather

pytestmark = [pytest.mark.xdist_group("rabbitmq-outage"), pytest.mark.timeout(180)]

SERVER_LIMIT = 1_000_000
WRITER, WRITER_PASSWORD = "writer", "writer-secret"
ONCE_A = 500
"""Milliseconds between two looks of a channel at what was not settled in time."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that may be hurt."""
    settings = {"max_message_size": str(SERVER_LIMIT)}
    made = Broker(tmp_path_factory.mktemp("rabbitmq") / "broker", HOME / "cache", settings=settings)
    made.start()
    made.control("eval", f"application:set_env(rabbit, channel_tick_interval, {ONCE_A}).")
    made.control("add_user", WRITER, WRITER_PASSWORD)
    made.control("set_permissions", WRITER, "^$", ".*", "^$")
    yield made
    made.stop()


@asynccontextmanager
async def alarm(broker: Broker) -> AsyncIterator[None]:
    """The disk is too full while the block runs: the server reads no more from who publishes."""
    await asyncio.to_thread(broker.control, "set_disk_free_limit", "1000000GB")
    try:
        yield
    finally:
        await asyncio.to_thread(broker.control, "set_disk_free_limit", "1MB")


async def test_a_blocked_publisher_waits_and_consumers_go_on(broker: Broker) -> None:
    """Promises 2, 5: what left is unknown, what waits is not sent, acks arrive; afterwards all goes on by itself."""
    destination = await provided(broker.url)
    got: list[Any] = []

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        got.append(delivery.body)

    async with unimsg.connect(broker.url) as client:
        await client.publish(destination, "before")
        async with alarm(broker):
            with pytest.raises(
                OutcomeUnknownError
            ):  # the server says that it is blocked when something comes
                await client.publish(destination, "first", timeout=1)
            with pytest.raises(NotSentError):
                await client.publish(destination, "second", timeout=0.3)
            await client.subscriber(destination, group="g").run_until_idle(note)
            assert got == ["before"]
            waiting = asyncio.create_task(client.publish(destination, "third", timeout=60))
            await asyncio.sleep(0.2)  # so that it waits
            assert not waiting.done()
        await waiting
        await client.subscriber(destination, group="g").run_until_idle(note)

    assert "third" in got
    assert "second" not in got
    assert got.count("before") == 1


async def test_a_retry_waits_while_the_server_takes_no_copy(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promises 5, 9, 10: the failed one is neither acked nor forgotten, the others are acked meanwhile."""
    monkeypatch.setattr("unimsg.backends.rabbitmq.receiver.COPYING", 0.1)
    destination, attempts, tried = await provided(broker.url), dict[str, int](), asyncio.Event()

    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        attempts[delivery.body] = delivery.attempt
        if delivery.body == "bad" and delivery.attempt == 1:
            tried.set()
            raise ValueError(delivery.body)

    async with unimsg.connect(broker.url) as client, unimsg.connect(broker.url) as other:
        await other.publish(destination, "bad")
        await other.publish(destination, "good")
        async with alarm(broker):
            retry = RetryPolicy(initial=0.05, max=0.05)
            async with consuming(client, destination, handle, group="g", retry=retry) as subscriber:
                await tried.wait()
                await eventually(lambda: subscriber.health().counters["acked"] == 1, "the good one is acked")
                await asyncio.sleep(3)  # longer than the tries that a lease would stand
                await asyncio.to_thread(broker.control, "set_disk_free_limit", "1MB")
                await eventually(lambda: attempts["bad"] == 2, "the bad one came again")
        counters = subscriber.health().counters

    assert (counters["failed"], counters["lost"], counters["acked"]) == (1, 0, 2)


async def test_a_copy_that_is_confirmed_late_is_not_written_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promises 5, 9: who asks again waits for the copy that is on its way; it comes once, and the original not."""
    monkeypatch.setattr("unimsg.backends.rabbitmq.receiver.COPYING", 0.3)
    bodies = ["a", "b", "c"]
    async with bare(broker.url) as there:
        await there.fill(*bodies)
        receiver = await there.receiver()
        retries = [
            Settlement("retry", each.token, each.assignment, 0.1, executions=1)
            for each in await take(receiver, 3)
        ]
        async with alarm(broker):
            for _ in range(3):  # of the first copies the server hears before it says that it is blocked
                results = await receiver.settle_batch(retries)
                assert [type(result) for result in results] == [TimedOutError] * 3
        async with asyncio.timeout(30):
            while any(results):
                waiting = [each for each, error in zip(retries, results, strict=True) if error is not None]
                retries, results = waiting, await receiver.settle_batch(waiting)

        again = await take(receiver, 3)
        assert sorted((each.message.body or b"").decode() for each in again) == bodies
        assert await rest(receiver) == []


async def test_a_handler_slower_than_the_servers_patience_is_cancelled_and_its_message_comes_again(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 8: the channel ends, the log says what to do, nothing is acked on another channel."""
    destination, ends = await provided(broker.url, **{"consumer-timeout": "1000"}), list[Any]()

    async def slow(delivery: unimsg.Delivery[Any]) -> None:
        if not ends:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append(delivery.lease_lost)
                raise
        ends.append(delivery.deliveries)

    async with unimsg.connect(broker.url) as client:
        await client.publish(destination, "x")
        async with consuming(client, destination, slow, group="g"):
            await eventually(lambda: len(ends) == 2, "it came again")

    assert ends == [True, 2]
    assert "consumer_timeout" in caplog.text


async def test_a_delivery_limit_is_told_and_kept(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 10: the server gives up what came back too often; a warning at open says so."""
    async with bare(broker.url, **{"delivery-limit": "2"}) as there:
        await there.fill("a")
        receiver = await there.receiver()
        deliveries = []
        for _ in range(3):
            (taken,) = await take(receiver, 1)
            deliveries.append(taken.deliveries)
            await receiver.settle_batch([Settlement("release", taken.token, taken.assignment)])

        assert deliveries == [1, 2, 3]
        assert await rest(receiver) == []
    assert "x-delivery-limit=2" in caplog.text


async def test_provisioned_queues_have_no_delivery_limit(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 10: the server's own limit of 20 is taken away, and no warning is given."""
    async with bare(broker.url) as there:
        await there.fill("a")
        receiver = await there.receiver()
        for _ in range(25):
            (taken,) = await take(receiver, 1)
            await receiver.settle_batch([Settlement("release", taken.token, taken.assignment)])

        (taken,) = await take(receiver, 1)
        assert taken.deliveries == 26
    assert "x-delivery-limit" not in caplog.text


async def test_a_body_over_the_servers_own_limit_is_too_large(broker: Broker) -> None:
    """Promise 19: the server does not tell its limit before; neighbours that are published alone are not hurt."""
    destination = await provided(broker.url)
    async with unimsg.connect(broker.url) as client:
        publisher = client.publisher(destination, codec=codecs.BYTES)
        async with asyncio.timeout(5):
            with pytest.raises(MessageTooLargeError) as raised:
                await publisher.publish(bytes(SERVER_LIMIT + 1))
        await publisher.publish(bytes(SERVER_LIMIT))
        got = await gather(client, destination, 1, group="g", codec=codecs.BYTES)

    assert (raised.value.size, raised.value.limit) == (SERVER_LIMIT + 1, SERVER_LIMIT)
    assert [len(body) for body in got.bodies] == [SERVER_LIMIT]


async def test_who_may_only_read_cannot_publish(broker: Broker) -> None:
    """B: rejected with its cause, not unknown; within moments."""
    destination = await provided(broker.url)
    async with (
        asyncio.timeout(5),
        unimsg.connect(f"amqp://{READER}:{READER_PASSWORD}@127.0.0.1:{broker.port}") as client,
    ):
        with pytest.raises(RejectedError, match="ACCESS_REFUSED") as raised:
            await client.publish(destination, "no")
    assert isinstance(raised.value.__cause__, PermissionDeniedError)


async def test_who_may_only_write_can_neither_consume_nor_provision(broker: Broker) -> None:
    """B: refused at open."""
    destination = await provided(broker.url)
    async with (
        asyncio.timeout(5),
        unimsg.connect(f"amqp://{WRITER}:{WRITER_PASSWORD}@127.0.0.1:{broker.port}") as client,
    ):
        await client.publish(destination, "yes")
        with pytest.raises(PermissionDeniedError, match="ACCESS_REFUSED"):
            await gather(client, destination, 1, group="g")
        with pytest.raises(PermissionDeniedError, match="ACCESS_REFUSED"):
            await client.provision(Topology(destination="new"))


async def test_when_a_node_goes_the_next_one_is_used(broker: Broker) -> None:
    """Rule 7: two ways in, one of them is closed for good; publishers and consumers go on over the other."""
    destination, got = await provided(broker.url), set[Any]()

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        got.add(delivery.body)

    async with Proxy(broker.port) as second, AsyncExitStack() as node:
        first = await node.enter_async_context(Proxy(broker.port))
        url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{first.port},127.0.0.1:{second.port}"
        client: Any
        async with unimsg.connect(url) as client, consuming(client, destination, note, group="g"):
            await client.publish(destination, "one")
            await eventually(lambda: "one" in got, "the first came")
            await node.aclose()
            await eventually(lambda: not client.backend._connection.live, "its end was noticed")
            await client.publish(destination, "two")
            await eventually(lambda: "two" in got, "the second came over the other node")


async def test_a_broker_that_is_killed_is_waited_for(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 7, promise 1: what was confirmed before is there, what is published meanwhile arrives."""
    caplog.set_level(logging.CRITICAL)
    destination = await provided(broker.url)
    await asyncio.sleep(2)  # a quorum queue younger than that may not come back, see the broker's own log
    async with unimsg.connect(broker.url) as client:
        await client.publish(destination, "before")
        await asyncio.to_thread(broker.kill)
        during = asyncio.create_task(client.publish(destination, "during", timeout=90))
        await asyncio.to_thread(broker.start)
        await during
        got = await gather(client, destination, 2, group="g")

    assert set(got.bodies) == {"before", "during"}
