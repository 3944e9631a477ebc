"""Router and client together on memory: registration, lifespan, stopping, signals, health."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.unit.consuming.harness import until
from unimsg.capabilities import Needs
from unimsg.client import Client, connect
from unimsg.consuming.delivery import Delivery
from unimsg.errors import (
    CapabilityError,
    ClosedError,
    ConfigError,
    NotFoundError,
    OptionError,
    UnknownSchemeError,
)
from unimsg.router import Router


async def nothing(delivery: Delivery[Any]) -> None:
    """A handler that does nothing."""


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with connect("memory://") as client:
        yield client


async def test_handlers_feed_each_other_until_all_is_done(client: Client) -> None:
    router, seen = Router(), list[Any]()

    @router.on("first", group="g")
    async def one(delivery: Delivery[Any]) -> None:
        await delivery.publish("second", delivery.body + 1, key="k")

    @router.on("second", group="g")
    async def two(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    for number in range(5):
        await client.publish("first", number)
    reports = await router.run_until_idle(client)
    assert sorted(seen) == [1, 2, 3, 4, 5]
    assert [report.counters["acked"] for report in reports] == [5, 5]


async def test_the_lifespan_gives_the_state_and_ends_after_the_last_message(client: Client) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(given: Client) -> AsyncIterator[str]:
        assert given is client
        log.append("up")
        yield "database"
        log.append("down")

    router = Router(lifespan=lifespan)

    @router.on("orders", group="g")
    async def handle(delivery: Delivery[Any]) -> None:
        log.append(delivery.state)

    await client.publish("orders", 1)
    await router.run_until_idle(client)
    assert log == ["up", "database", "down"]


async def test_one_destination_and_group_has_one_handler() -> None:
    router, other = Router(), Router()
    router.on("orders", group="a")(nothing)
    router.on("orders", group="b")(nothing)
    with pytest.raises(ConfigError, match="has a handler already"):
        router.on("orders", group="a")(nothing)
    other.on("new", group="a")(nothing)
    other.on("orders", group="b")(nothing)
    with pytest.raises(ConfigError, match="has a handler already"):
        router.include(other)
    assert len(router.routes) == 2, "nothing was taken over"


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (lambda delivery: None, "not `async def`"),
        (42, "async function"),
        (Delivery, "async function"),
        ("name", "async function"),
    ],
)
def test_what_is_no_handler_is_refused_when_it_is_registered(handler: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Router().on("orders", group="g")(handler)


def test_handlers_of_the_wrong_shape_are_refused() -> None:
    async def no_argument() -> None: ...

    async def generator(delivery: Any) -> Any:
        yield delivery

    with pytest.raises(ConfigError, match="cannot be called with one delivery"):
        Router().on("orders", group="g")(no_argument)
    with pytest.raises(ConfigError, match="yield"):
        Router().on("orders", group="g")(generator)


async def test_an_empty_router_does_not_run(client: Client) -> None:
    with pytest.raises(ConfigError, match="no handlers"):
        await Router().run(client)


async def test_the_first_signal_drains_and_ends_run(client: Client) -> None:
    """Promise 17."""
    router, started, ended = Router(), asyncio.Event(), list[Any]()

    @router.on("orders", group="g", concurrency=1)
    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await asyncio.sleep(0.05)
        ended.append(delivery.body)

    await client.publish("orders", 1)
    await client.publish("orders", 2)
    running = asyncio.create_task(router.run(client))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 5)
    assert ended == [1]
    await router.run_until_idle(client)
    assert ended == [1, 2], "what was given back comes again"


async def test_a_second_signal_forces(client: Client) -> None:
    router, started = Router(), asyncio.Event()

    @router.on("orders", group="g")
    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await asyncio.sleep(1000)

    await client.publish("orders", 1)
    running = asyncio.create_task(router.run(client))
    await started.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.02)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(running, 5)


async def test_running_drains_when_the_block_ends(client: Client) -> None:
    router, seen = Router(), list[Any]()

    @router.on("orders", group="g")
    async def handle(delivery: Delivery[Any]) -> None:
        await asyncio.sleep(0.01)
        seen.append(delivery.body)

    async with router.running(client):
        assert client.health().ready
        await client.publish("orders", 1)
        await asyncio.sleep(0.005)
    assert seen == [1]
    assert client.health().live


async def test_a_loop_that_ends_for_good_ends_run_and_turns_health_dead() -> None:
    async with connect("memory://?create=false") as client:
        router = Router()
        router.on("orders", group="g")(nothing)
        with pytest.raises(NotFoundError):
            await router.run(client)
        assert not client.health().live
        with pytest.raises(NotFoundError):
            async with router.running(client):
                pass


async def test_a_cancelled_run_drains_and_is_cancelled(client: Client) -> None:
    router, started, ended = Router(), asyncio.Event(), list[Any]()

    @router.on("orders", group="g")
    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await asyncio.sleep(0.02)
        ended.append(1)

    await client.publish("orders", 1)
    running = asyncio.create_task(router.run(client))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == [1]


async def test_a_closed_client_refuses(client: Client) -> None:
    await client.aclose()
    await client.aclose()
    with pytest.raises(ClosedError):
        await client.publish("orders", 1)
    with pytest.raises(ClosedError):
        client.publisher("orders")
    with pytest.raises(ClosedError):
        client.subscriber("orders", group="g")


async def test_a_client_belongs_to_one_event_loop(client: Client) -> None:
    await client.publish("orders", 1)
    with pytest.raises(ConfigError, match="event loop"):
        await asyncio.to_thread(asyncio.run, client.publish("orders", 2))


def test_needs_are_compared_without_io() -> None:
    with pytest.raises(CapabilityError) as refusal:
        connect("memory://?ordering=none", needs=Needs(ordering="key", priority=True))
    assert refusal.value.missing == ("ordering", "priority")
    assert "option ordering=none" in str(refusal.value)


def test_urls_and_settings_that_cannot_be() -> None:
    with pytest.raises(UnknownSchemeError, match="did you mean memory://"):
        connect("memroy://")
    with pytest.raises(OptionError, match="did you mean lease"):
        connect("memory://?leese=3s")
    with pytest.raises(OptionError, match="no setting of a subscriber"):
        Router().on("orders", concurency=3)  # type: ignore[call-arg]  # what a typo looks like
    with pytest.raises(ConfigError, match="name of a destination"):
        Router().on("")


async def test_closing_a_client_ends_its_iterations(client: Client) -> None:
    await client.publish("orders", 1)
    seen: list[Any] = []

    async def iterate() -> None:
        async for delivery in client.subscriber("orders", group="g"):
            async with delivery:
                seen.append(delivery.body)

    task = asyncio.create_task(iterate())
    await until(lambda: seen)
    await client.aclose()
    await asyncio.wait_for(task, 5)
    assert seen == [1]


async def test_seek_moves_the_group(client: Client) -> None:
    for number in range(3):
        await client.publish("orders", number)
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    subscriber = client.subscriber("orders", group="g")
    await subscriber.run_until_idle(handle)
    await subscriber.seek("oldest")
    await subscriber.run_until_idle(handle)
    assert seen == [0, 1, 2, 0, 1, 2]


async def test_seek_while_it_runs(client: Client) -> None:
    for number in range(3):
        await client.publish("orders", number)
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    subscriber = client.subscriber("orders", group="g")
    task = asyncio.create_task(subscriber.run(handle))
    await until(lambda: len(seen) == 3)
    await subscriber.seek("oldest")
    await until(lambda: len(seen) == 6)
    await subscriber.aclose()
    await task
    assert seen == [0, 1, 2, 0, 1, 2]


async def test_a_dead_letter_destination_that_does_not_exist_is_found_at_start() -> None:
    """Promise 15: not when the first dead letter is due, which nobody may see for months."""
    router = Router()
    router.on("orders", group="billing", dead_letter="nowhere")(nothing)
    async with (
        connect("memory://dead-at-start") as maker,
        connect("memory://dead-at-start?create=false") as client,
    ):
        await maker.publish("orders", "kept")

        with pytest.raises(NotFoundError, match="nowhere"):
            await router.run_until_idle(client)

        assert client.health().subscribers[0].counters.get("received", 0) == 0
