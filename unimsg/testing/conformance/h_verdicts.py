"""H: policy, verdicts. What counts as an attempt, what does not, and what slows a loop down when much fails."""

from __future__ import annotations

import asyncio
from typing import Any

import unimsg
from unimsg.consuming.delivery import Delivery
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.h_policy import info_of, letters, with_dead_letters
from unimsg.testing.conformance.handlers import Seen, publish
from unimsg.testing.conformance.world import World, consuming, eventually, gather, quick
from unimsg.testing.faults import inject

BURST = 500
"""Retries that a loop can afford before successes must earn them (see `unimsg.policies.budget`)."""
PATIENT = unimsg.RetryPolicy(max_attempts=1000, initial=300)


class Verdicts(Section):
    """Section H of the catalogue: what a handler can do, and what is done to it."""

    @requires(dead_letter="emulated")
    async def test_a_stop_neither_counts_nor_dead_letters(self, world: World) -> None:
        """H: stopped in its handler more often than it has attempts; promises 10, 17."""
        destination, dead = await with_dead_letters(world)
        publisher = await world.client()
        await publisher.publish(destination, "m", key="k")
        attempts: list[int] = []
        settings: dict[str, Any] = {"group": world.group, "retry": quick(world, 2), "dead_letter": dead}

        for _ in range(3):
            client, running = await world.client(), asyncio.Event()

            async def handle(delivery: Delivery[Any], running: asyncio.Event = running) -> None:
                attempts.append(delivery.attempt)
                running.set()
                await asyncio.Event().wait()

            async with consuming(client, destination, handle, **settings) as subscriber:
                await eventually(running.is_set, "the handler runs")
                await subscriber.aclose(drain=0.0)
                counters = subscriber.health().counters
                assert (counters["failed"], counters["dead_lettered"]) == (0, 0)
            await client.aclose()
        last = await gather(publisher, destination, 1, **settings)

        assert attempts == [1, 1, 1]
        assert [delivery.attempt for delivery in last.deliveries] == [1]
        assert await letters(publisher, dead, world) == []

    @requires(dead_letter="emulated")
    async def test_a_handler_over_its_timeout_is_cancelled_and_has_failed(self, world: World) -> None:
        """H: each time, until it is dead; one that swallows the cancellation has failed too (see `Delivery`)."""
        destination, dead = await with_dead_letters(world)
        client = await world.client()
        for body in ("hangs", "swallows"):
            await client.publish(destination, body)
        cancelled = Seen()

        async def handle(delivery: Delivery[Any]) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.note(delivery)
                if delivery.body == "hangs":
                    raise

        async with consuming(
            client,
            destination,
            handle,
            group=world.group,
            order="none",
            retry=quick(world, 2),
            dead_letter=dead,
            timeout=world.tick,
        ) as subscriber:
            await eventually(lambda: subscriber.health().counters["dead_lettered"] == 2, "both are dead")

        assert [cancelled.attempts(body) for body in ("hangs", "swallows")] == [[1, 2], [1, 2]]
        assert {info_of(letter).error_type for letter in await letters(client, dead, world)} == {
            "TimeoutError"
        }

    @requires(dead_letter="emulated")
    async def test_of_a_group_of_verdicts_the_most_severe_counts(self, world: World) -> None:
        """H: nested ones too; with any other error in it a group is a failure as it stands (see `RetryPolicy`)."""
        destination, dead = await with_dead_letters(world)
        client = await world.client()
        groups: dict[str, list[Exception]] = {
            "deferred": [unimsg.Defer(0), unimsg.Defer(world.tick)],
            "failed": [unimsg.Defer(0), unimsg.Fail("once", delay=0)],
            "dead": [
                unimsg.Fail("no"),
                ExceptionGroup("inner", [unimsg.DeadLetter("inside"), unimsg.Defer(0)]),
            ],
            "mixed": [unimsg.DeadLetter("no"), ValueError("an error")],
        }
        for body in groups:
            await client.publish(destination, body)
        seen = Seen()

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if len(seen.attempts(delivery.body)) == 1:
                raise ExceptionGroup("together", groups[delivery.body])

        async with consuming(
            client,
            destination,
            handle,
            group=world.group,
            order="none",
            retry=quick(world),
            dead_letter=dead,
        ) as subscriber:
            await eventually(lambda: subscriber.health().counters["acked"] == 3, "three are handled at last")
            await eventually(lambda: subscriber.health().counters["dead_lettered"] == 1, "one is dead")

        attempts = {body: seen.attempts(body) for body in groups}
        assert attempts == {"deferred": [1, 1], "failed": [1, 2], "dead": [1], "mixed": [1, 2]}
        assert [info_of(letter).reason for letter in await letters(client, dead, world)] == ["inside"]

    # ------------------------------------------------------------ brakes

    @requires(dead_letter="emulated")
    async def test_retries_beyond_the_budget_are_deferred(self, world: World) -> None:
        """H: they burn no attempts and end in no dead letters; promise 12."""
        destination, dead = await with_dead_letters(world)
        client, count, most = await world.client(), 20, 60
        clock = asyncio.get_running_loop().time
        await publish(client, destination, count)
        attempts: dict[int, int] = {}
        all_are_here = asyncio.Event()

        async def handle(delivery: Delivery[Any]) -> None:
            attempts[delivery.body] = delivery.attempt
            if len(attempts) == count:
                all_are_here.set()
            await (
                all_are_here.wait()
            )  # else those that came first spend it all, and the breaker keeps the others out
            raise unimsg.Fail("down", delay=0)

        subscriber = client.subscriber(
            destination,
            group=world.group,
            order="none",
            concurrency=count,
            retry=quick(world, most),
            dead_letter=dead,
        )
        started = clock()
        running = asyncio.create_task(subscriber.run_until_idle(handle))
        await eventually(
            lambda: subscriber.health().counters.get("deferred", 0) >= count, "retries are deferred"
        )
        counters, elapsed = subscriber.health().counters, clock() - started
        await subscriber.aclose(drain=0.0)
        await running

        assert BURST <= counters["failed"] < BURST + 1 + elapsed
        assert counters["dead_lettered"] == 0
        assert max(attempts.values()) < most

    async def test_an_open_breaker_takes_in_nothing_and_burns_no_attempt(self, world: World) -> None:
        """H: when most of it fails the loop stops asking for more, and says so; promise 12."""
        destination, count = await world.destination(), 40
        client, publisher = world.connect(), await world.client()
        faults, seen = inject(client), Seen()
        await publish(publisher, destination, count)

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            raise unimsg.Fail("down")

        async with consuming(
            client, destination, handle, group=world.group, order="none", retry=PATIENT
        ) as subscriber:
            await eventually(lambda: "breaker" in subscriber.health().reasons, "the breaker opens")
            assert not subscriber.health().ready
            polls = faults.calls["receive"]
            for number in range(20):  # each would answer a poll, and the next would be made
                await publisher.publish(destination, count + number, key=f"new-{number}")
                await asyncio.sleep(world.tick / 10)
            assert faults.calls["receive"] - polls <= in_flight(subscriber)

        assert len(seen.all) < count + 20
        assert all(seen.attempts(delivery.body) == [1] for delivery in seen.all)


def in_flight(subscriber: unimsg.Subscriber[Any]) -> int:
    """How many receives can be out at once."""
    home: Any = subscriber._home  # noqa: SLF001 - the limits of a receiver are not shown to programs
    return int(home.limits.in_flight)
