"""H: policy. What becomes of a message whose handler fails, is late, cannot read it, or is stopped.

Redrive stands in `h_redrive`; delays, expiry and priorities in `h_times`.
"""

from __future__ import annotations

from typing import Any

import unimsg
from unimsg.client import Client
from unimsg.codecs import BYTES, JSON
from unimsg.consuming.dead_letter import DeadLetterInfo, read
from unimsg.consuming.delivery import Delivery
from unimsg.errors import RejectedError
from unimsg.headers import DEAD_LETTER
from unimsg.operations.redrive import reader
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.handlers import Seen
from unimsg.testing.conformance.world import Gathered, World, consuming, eventually, left, quick
from unimsg.testing.faults import Fail, inject

REFUSED = Fail(RejectedError("refused by the test"))


class DeadLetters(Section):
    """Section H of the catalogue: the end of the road."""

    @requires(dead_letter="emulated")
    async def test_after_the_last_attempt_it_is_a_dead_letter_that_says_why(self, world: World) -> None:
        """H: body, headers, key and id as they were, one header more, the original acked; promises 3, 5, 10, 14."""
        destination, dead = await with_dead_letters(world)
        client, body, seen = await world.client(), {"order": "Ä", "n": [1, 2]}, Seen()
        headers = {"trace": "t-1", "note": "naïve ☃"}
        receipt = await client.publish(destination, body, key="k", headers=headers)

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            raise ValueError(f"bad order, attempt {delivery.attempt}")

        async with consuming(
            client, destination, handle, group=world.group, retry=quick(world, 3), dead_letter=dead
        ) as subscriber:
            await eventually(lambda: subscriber.health().counters["dead_lettered"], "it is dead-lettered")

        (letter,) = await letters(client, dead, world)
        message, info = letter.message, info_of(letter)
        assert seen.attempts(body) == [1, 2, 3]
        assert (message.body, message.id, message.key) == (JSON.encode(body), receipt.id, "k")
        assert {name: text for name, text in message.headers.items() if name != DEAD_LETTER} == headers
        assert (info.attempts, info.error_type, info.group) == (3, "ValueError", world.group)
        assert (info.error, info.origin.destination) == ("bad order, attempt 3", destination)
        assert "3 attempts" in info.reason
        assert "bad order" in info.reason
        assert "handle" in info.handler
        assert info.first_failed < info.last_failed
        assert await left(client, destination, group=world.group) == []

    @requires(dead_letter="emulated")
    async def test_a_verdict_of_dead_letter_is_carried_out_at_once(self, world: World) -> None:
        """H: raised, called, or for an error that is to be given up on; one execution each; promises 9, 14."""
        destination, dead = await with_dead_letters(world)
        client, seen = await world.client(), Seen()
        for body in ("raised", "called", "given up"):
            await client.publish(destination, body)

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if delivery.body == "raised":
                raise unimsg.DeadLetter("raised on purpose")
            if delivery.body == "called":
                await delivery.dead_letter("called on purpose")
                return
            raise LookupError("given up on purpose")

        retry = unimsg.RetryPolicy(max_attempts=9, give_up_on=LookupError)
        async with consuming(
            client, destination, handle, group=world.group, retry=retry, dead_letter=dead
        ) as subscriber:
            await eventually(lambda: subscriber.health().counters["dead_lettered"] == 3, "all three are dead")

        reasons = {
            letter.message.body: info_of(letter).reason for letter in await letters(client, dead, world)
        }
        assert reasons == {
            b'"raised"': "raised on purpose",
            b'"called"': "called on purpose",
            b'"given up"': "LookupError: given up on purpose",
        }
        assert [seen.attempts(body) for body in ("raised", "called", "given up")] == [[1], [1], [1]]

    @requires(dead_letter="emulated")
    async def test_what_cannot_be_dead_lettered_stays_until_it_can(self, world: World) -> None:
        """H: the write fails: nothing is acked, health turns red; then it works, without another run; promise 15."""
        destination, dead = await with_dead_letters(world)
        await (await world.client()).publish(destination, "m")
        client, seen = world.connect(), Seen()
        faults = inject(client)
        faults.always("send", REFUSED)

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            raise unimsg.DeadLetter("no use")

        async with consuming(
            client, destination, handle, group=world.group, retry=quick(world), dead_letter=dead
        ) as subscriber:
            await eventually(lambda: faults.calls["send"] >= 3, "it is tried again and again")
            health = subscriber.health()
            assert "dead letter" in health.reasons
            assert not health.ready
            assert (health.counters["acked"], health.counters["dead_lettered"], health.in_flight) == (0, 0, 1)
            faults.always("send", None)
            await eventually(
                lambda: subscriber.health().counters["dead_lettered"] == 1, "it is written at last"
            )
            assert "dead letter" not in subscriber.health().reasons

        assert [letter.message.body for letter in await letters(client, dead, world)] == [b'"m"']
        assert seen.attempts("m") == [1]

    @requires(dead_letter="emulated")
    async def test_the_original_outlives_a_consumer_that_cannot_dead_letter(self, world: World) -> None:
        """H: it ends before the dead letter could be written: the next one has the message; promises 5, 15."""
        destination, dead = await with_dead_letters(world)
        await (await world.client()).publish(destination, "m")
        client = world.connect()
        faults = inject(client)
        faults.always("send", REFUSED)

        async def handle(_: Delivery[Any]) -> None:
            raise unimsg.DeadLetter("no use")

        async with consuming(
            client, destination, handle, group=world.group, retry=quick(world), dead_letter=dead
        ) as subscriber:
            await eventually(lambda: faults.calls["send"] >= 1, "it is tried")
            await subscriber.aclose(drain=0.0)
        await client.aclose()

        other = await world.client()
        assert await left(other, destination, group=world.group) == ["m"]
        assert await letters(other, dead, world) == []

    async def test_without_a_dead_letter_destination_it_waits_and_health_turns_red(
        self, world: World
    ) -> None:
        """H: tried for ever at the longest delay, and counted; there is no third choice; promise 16."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, "m", key="k")
        seen = Seen()

        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if delivery.attempt < 6:
                raise RuntimeError("still not")

        async with consuming(
            client, destination, handle, group=world.group, retry=quick(world, 2)
        ) as subscriber:
            await eventually(lambda: subscriber.health().reasons, "health turns red")
            assert not subscriber.health().ready
            assert not client.health().ready
            await eventually(lambda: subscriber.health().counters["acked"], "it is handled after all")
            assert not subscriber.health().reasons, "nothing is wrong any more"

        assert seen.attempts("m") == [1, 2, 3, 4, 5, 6]
        assert await left(client, destination, group=world.group) == []

    # ------------------------------------------------------------ undecodable

    @requires(dead_letter="emulated")
    async def test_what_cannot_be_decoded_goes_at_once(self, world: World) -> None:
        """H: raw bytes and headers, no execution, neighbours untouched; promise 13."""
        destination, dead = await with_dead_letters(world)
        client, raw, seen = await world.client(), b"\xff{ no json \x00", Gathered(2)
        await client.publish(destination, "before", key="k")
        await client.publish(destination, raw, codec=BYTES, key="k", headers={"h": "kept"})
        await client.publish(destination, "after", key="k")

        async with consuming(
            client, destination, seen, group=world.group, retry=quick(world), dead_letter=dead
        ) as subscriber:
            await seen.enough()
            await eventually(
                lambda: subscriber.health().counters["dead_lettered"] == 1, "the bad one is dead"
            )
            assert subscriber.health().counters["undecodable"] == 1

        (letter,) = await letters(client, dead, world)
        assert (letter.message.body, letter.message.headers["h"]) == (raw, "kept")
        assert info_of(letter).error_type == "DecodeError"
        assert sorted(seen.bodies) == ["after", "before"]

    async def test_what_cannot_be_decoded_is_a_failure_without_a_dead_letter_destination(
        self, world: World
    ) -> None:
        """H: it stays, health turns red, others go on; promises 13, 16."""
        client, destination = await world.client(), await world.destination()
        await client.publish(destination, b"\xff", codec=BYTES)
        await client.publish(destination, "good")
        seen = Gathered(1)

        async with consuming(
            client, destination, seen, group=world.group, order="none", retry=quick(world)
        ) as subscriber:
            await seen.enough()
            await eventually(lambda: subscriber.health().counters["undecodable"] >= 2, "it is tried again")
            assert not subscriber.health().ready
            await subscriber.aclose(drain=0.0)  # it would be tried for as long as there is time

        assert seen.bodies == ["good"]
        raw = await left(client, destination, group=world.group, codec=BYTES)
        assert b"\xff" in raw


# ---------------------------------------------------------------- short words, also for redrive


async def with_dead_letters(world: World) -> tuple[str, str]:
    """Return a destination, and one for its dead letters, with a group that reads them."""
    dead = world.name("dead")
    return await world.destination(dead_letter=dead), dead


async def letters(client: Client, dead: str, world: World) -> list[Delivery[Any]]:
    """Return the dead letters that are there; they are acked."""
    gathered = Gathered(0)
    group = reader(dead, world.capabilities)
    await client.subscriber(dead, group=group, codec=BYTES).run_until_idle(gathered)
    return gathered.deliveries


def info_of(letter: Delivery[Any]) -> DeadLetterInfo:
    """Return what the header of a dead letter says."""
    info = read(letter.headers)
    assert info is not None, f"no {DEAD_LETTER} header"
    return info
