"""L: observability. Traces pass through, outcomes are counted once, errors have classes, an idle consumer is quiet.

The names of the counters are a contract: dashboards are built on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import structs

import unimsg
from unimsg import errors
from unimsg.consuming.delivery import Delivery
from unimsg.consuming.health import LoopHealth
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import World, consuming, eventually, gather
from unimsg.testing.faults import Fail, Some, inject

TRACES: tuple[Mapping[str, str], ...] = (
    {},
    {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    {
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "tracestate": "vendor=t61rcWkgMzE,other=00f067aa0ba902b7",
        "baggage": "user=alice",
    },
    {"traceparent": "not a trace at all"},
    {"traceparent": "ff-00000000000000000000000000000000-0000000000000000-01", "tracestate": ",,=,"},
)
"""Absent, valid (https://www.w3.org/TR/trace-context/, read 2026-11-25), and two that are malformed."""

OUTCOMES = ("acked", "failed", "deferred", "dead_lettered", "released", "lost", "expired")
BESIDE = ("duplicates", "undecodable", "completion_failed")
PUBLISHED = ("confirmed", "not_published", "unknown", "waiting", "in_flight")


class Observability(Section):
    """Section L of the catalogue."""

    @requires(headers="emulated")
    async def test_a_trace_passes_through_unchanged(self, world: World) -> None:
        """L: absent, valid or malformed: the handler finds what the publisher set, and nothing else; promise 20."""
        client, destination = await world.client(), await world.destination()
        for number, headers in enumerate(TRACES):
            await client.publish(destination, number, key=f"k{number}", headers=headers)
        gathered = await gather(client, destination, len(TRACES), group=world.group)

        found = {delivery.body: dict(delivery.headers) for delivery in gathered.deliveries}
        assert found == {number: dict(headers) for number, headers in enumerate(TRACES)}

    @requires(headers="emulated")
    async def test_a_trace_survives_retry_and_dead_letter(self, world: World) -> None:
        """L: every execution sees it, and so does the reader of the dead letter; promises 3, 14."""
        dead = await world.destination("dead")
        client, destination = await world.client(), await world.destination(dead_letter=dead)
        trace = TRACES[2]
        receipt = await client.publish(destination, "one", headers=trace)
        seen: list[dict[str, str]] = []

        async def fail(delivery: Delivery[Any]) -> None:
            seen.append(dict(delivery.headers))
            raise unimsg.Fail("says the test")

        twice = unimsg.RetryPolicy(max_attempts=2, initial=world.tick, max=world.tick)
        async with consuming(client, destination, fail, group=world.group, retry=twice, dead_letter=dead):
            letter = (await gather(client, dead, 1, group=world.group)).deliveries[0]

        assert seen == [dict(trace)] * 2
        assert letter.id == receipt.id
        assert {name: letter.headers.get(name) for name in trace} == dict(trace)

    async def test_each_outcome_is_counted_once(self, world: World) -> None:
        """L: acked, failed, deferred and dead-lettered add up with what is in hand, at any moment; promise 21."""
        dead = await world.destination("dead")
        client, destination = await world.client(), await world.destination(dead_letter=dead)
        for number in range(12):
            await client.publish(destination, number, key=f"k{number}")
        runs: dict[int, int] = {}
        sums: list[tuple[int, int]] = []

        async def handle(delivery: Delivery[Any]) -> None:
            runs[delivery.body] = run = runs.get(delivery.body, 0) + 1
            sums.append(_sums(subscriber.health()))
            kind = delivery.body % 4
            if kind == 1 and run == 1:
                raise unimsg.Fail("says the test", delay=world.tick)
            if kind == 2 and run == 1:
                raise unimsg.Defer(world.tick)
            if kind == 3:
                raise unimsg.DeadLetter("says the test")

        subscriber = client.subscriber(destination, group=world.group, dead_letter=dead)
        health = await subscriber.run_until_idle(handle)

        assert [received for received, _ in sums] == [accounted for _, accounted in sums]
        balanced(health)
        assert health.in_flight == 0
        expected = {"acked": 9, "failed": 3, "deferred": 3, "dead_lettered": 3, "released": 0, "lost": 0}
        assert {name: health.counters[name] for name in expected} == expected
        assert health.counters["received"] == 18
        assert client.health().publishers[dead].confirmed == 3

    async def test_what_was_lost_or_released_is_counted_as_that(self, world: World) -> None:
        """L: a lost connection and a stop are outcomes too; promises 17, 21."""
        client = world.connect(lease=world.lease)
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        for number in range(3):
            await client.publish(destination, number, key=f"k{number}")
        running: set[int] = set()

        async def hold(delivery: Delivery[Any]) -> None:
            running.add(delivery.body)
            await asyncio.Event().wait()

        subscriber = client.subscriber(destination, group=world.group)
        task = asyncio.create_task(subscriber.run(hold))
        await eventually(
            lambda: running and subscriber.health().in_flight == 3, "all are in hand, and it polls for more"
        )
        faults.next("receive", Fail(errors.ConnectionLostError("says the test")))
        faults.cut()
        await eventually(lambda: subscriber.health().counters["lost"], "the loss is counted")
        balanced(subscriber.health())
        lost = subscriber.health().counters["lost"]
        await eventually(lambda: subscriber.health().in_flight, "some of it has come again")
        await subscriber.aclose(drain=world.tick)
        await task
        health = subscriber.health()

        balanced(health)
        assert lost >= 1
        assert health.counters["released"] + health.counters["lost"] == health.counters["received"]
        assert health.in_flight == 0

    async def test_each_publish_is_counted_in_one_place(self, world: World) -> None:
        """L: confirmed, not published and unknown add up to what was accepted; promises 2, 21."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        publisher = client.publisher(destination)
        await publisher.publish("confirmed")
        faults.next("send", Some(lambda _at, _message: errors.RejectedError("says the test")))
        with pytest.raises(errors.PublishError):
            await publisher.publish("refused")
        faults.next("send", Fail(errors.ConnectionLostError("says the test"), after=True))
        with pytest.raises(errors.OutcomeUnknownError):
            await publisher.publish("unknown")
        await client.publish(destination, "by the client")

        stats = client.health().publishers[destination]
        assert (stats.confirmed, stats.not_published, stats.unknown) == (2, 1, 1)
        assert stats.accepted == sum(getattr(stats, name) for name in PUBLISHED) == 4

    async def test_the_names_of_the_counters_stay(self, world: World) -> None:
        """L: what is renamed here breaks somebody's dashboard; promise 21."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "one")
        health = await client.subscriber(destination, group=world.group).run_until_idle(_nothing)

        assert set(health.counters) == {"received", *OUTCOMES, *BESIDE}
        published = set(structs.asdict(client.health().publishers[destination]))
        assert published == {"accepted", *PUBLISHED, "resent", "batches", "reopened"}

    async def test_every_error_has_a_class_and_a_place(self, world: World) -> None:
        """L: whatever a client library raises, a caller gets one of ours, with its cause; promise 2."""
        destination = await world.destination()
        for operation, raised, expected in (
            ("send", RuntimeError("a bug, says the test"), errors.OutcomeUnknownError),
            ("send", OSError("broken pipe, says the test"), errors.OutcomeUnknownError),
            ("open_sender", errors.NotFoundError("gone, says the test"), errors.NotFoundError),
        ):
            client = world.connect()
            faults = inject(client)
            await client.__aenter__()
            faults.next(operation, Fail(raised))  # type: ignore[arg-type]  # the literals stand in the table above
            with pytest.raises(errors.Error) as caught:
                await client.publish(destination, "one")
            assert isinstance(caught.value, expected)
            assert caught.value.backend == world.options.scheme
            assert caught.value.destination == destination
        client = world.connect()
        inject(client).next("open", Fail(OSError("refused, says the test")))
        with pytest.raises(errors.ConnectError) as refused:
            await client.__aenter__()
        assert isinstance(refused.value.__cause__, OSError)

    async def test_a_failure_is_logged_once_and_never_with_its_body(self, world: World) -> None:
        """L: with its traceback, once for each attempt; promise 9."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "secret-body")
        log = _Records()
        logging.getLogger("unimsg").addHandler(log)
        try:

            async def handle(delivery: Delivery[Any]) -> None:
                if delivery.attempt == 1:
                    raise ValueError("says the test")

            quick = unimsg.RetryPolicy(initial=world.tick, max=world.tick)
            await client.subscriber(destination, group=world.group, retry=quick).run_until_idle(handle)
        finally:
            logging.getLogger("unimsg").removeHandler(log)

        assert len([record for record in log.records if record.exc_info]) == 1
        assert not any("secret-body" in record.getMessage() for record in log.records)

    async def test_an_idle_consumer_asks_seldom(self, world: World) -> None:
        """L: long polls, no settling, no extending, no probing: requests per minute stay bounded; promise 18."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        async with consuming(client, destination, _nothing, group=world.group):
            await eventually(lambda: faults.calls["receive"], "it polls")
            before = faults.calls.total()
            span = 10 * world.tick
            await asyncio.sleep(span)  # what is counted is what happens in a time in which nothing happens
            asked = faults.calls.total() - before
        assert asked <= 1 + span * world.idle_requests / 60, f"{asked} requests in {span:g} s"


class _Records(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def balanced(health: LoopHealth) -> None:
    """Everything received has exactly one outcome or is in hand."""
    received, accounted = _sums(health)
    assert received == accounted, health.counters


def _sums(health: LoopHealth) -> tuple[int, int]:
    """What was received, and what has an outcome or is in hand."""
    counters = health.counters
    return counters["received"], sum(counters[name] for name in OUTCOMES) + health.in_flight


async def _nothing(_delivery: Delivery[Any]) -> None:
    pass
