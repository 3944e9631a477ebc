"""H: policy, redrive. Dead letters go back to where they came from: all, some, slowly, or only on paper."""

from __future__ import annotations

import asyncio
from typing import Any

import unimsg
from unimsg.client import Client
from unimsg.codecs import JSON
from unimsg.consuming.delivery import Delivery
from unimsg.errors import SettleError
from unimsg.headers import DEAD_LETTER, redrive_of
from unimsg.operations.redrive import Letter
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.h_policy import letters, with_dead_letters
from unimsg.testing.conformance.handlers import Seen, publish
from unimsg.testing.conformance.world import World, consuming, eventually, left, quick
from unimsg.testing.faults import Fail, inject


class Redrive(Section):
    """Section H of the catalogue: what an operator does when the handler can deal with it."""

    @requires(dead_letter="emulated")
    async def test_all_dead_letters_are_redriven_as_they_were(self, world: World) -> None:
        """H: whole; body, key, id and headers are those of the message, one header more; promises 3, 25."""
        destination, dead = await with_dead_letters(world)
        client = await world.client()
        sent = await client.publish(destination, {"n": 0}, key="k", headers={"h": "kept"})
        await bury(client, destination, dead, 1, world)

        report = await client.redrive(dead, group=world.group)

        assert (report.redriven, report.left, report.failed, report.complete) == (1, 0, 0, True)
        seen = Seen()
        await client.subscriber(destination, group=world.group).run_until_idle(seen.handle)
        (again,) = seen.all
        assert (again.message.body, again.id, again.key) == (JSON.encode({"n": 0}), sent.id, "k")
        assert (again.headers["h"], DEAD_LETTER in again.headers, again.attempt) == ("kept", False, 1)
        mark = redrive_of(again.headers)
        assert mark is not None
        assert (mark.number, mark.group) == (1, world.group)
        assert await letters(client, dead, world) == []

    @requires(dead_letter="emulated")
    async def test_a_filter_says_which_dead_letters_are_redriven(self, world: World) -> None:
        """H: filtered; the others stay, and so does one of another group; promises 14, 25.

        A log gives nothing back out of its middle: what went from behind a letter that stays is looked at again.
        """
        destination, dead = await with_dead_letters(world)
        client = await world.client()
        await publish(client, destination, 6)
        await bury(client, destination, dead, 6, world)

        def odd(letter: Letter) -> bool:
            return letter.info is not None and letter.info.reason == "odd"

        report = await client.redrive(dead, group=world.group, filter=odd)
        nobody = await client.redrive(dead, group="someone-else")

        assert (report.redriven, report.left, report.looked_at) == (3, 3, 6)
        assert sorted(await left(client, destination, group=world.group)) == [1, 3, 5]
        kept = [letter.message.body or b"" for letter in await letters(client, dead, world)]
        again = [body for body in kept if body in (b"1", b"3", b"5")]
        assert (nobody.redriven, nobody.left) == (0, 3 + len(again))
        assert sorted(body for body in kept if body not in again) == [b"0", b"2", b"4"]
        assert world.is_log or not again

    @requires(dead_letter="emulated")
    async def test_a_dry_run_moves_nothing(self, world: World) -> None:
        """H: it counts what would go, and why it was there; promise 14."""
        destination, dead = await with_dead_letters(world)
        client = await world.client()
        await publish(client, destination, 4)
        await bury(client, destination, dead, 4, world)

        report = await client.redrive(dead, group=world.group, dry_run=True)

        assert (report.redriven, report.dry_run, dict(report.errors)) == (4, True, {"DeadLetter": 4})
        assert await left(client, destination, group=world.group) == []
        assert len(await letters(client, dead, world)) == 4

    @requires(dead_letter="emulated")
    async def test_a_rate_spaces_what_is_redriven(self, world: World) -> None:
        """H: never faster than it says, and a limit ends it before everything was looked at (see `Client.redrive`)."""
        destination, dead = await with_dead_letters(world)
        client, clock, rate = await world.client(), asyncio.get_running_loop().time, 20.0
        await publish(client, destination, 8)
        await bury(client, destination, dead, 8, world)

        started = clock()
        report = await client.redrive(dead, group=world.group, rate=rate, limit=5)

        assert clock() - started >= (5 - 1) / rate - world.tick
        assert (report.redriven, report.complete) == (5, False)
        assert len(await left(client, destination, group=world.group)) == 5
        assert len(await letters(client, dead, world)) == 3

    @requires(dead_letter="emulated")
    async def test_a_redriven_message_runs_again_and_a_completed_one_does_not(self, world: World) -> None:
        """H: a redrive that could not ack the dead letter sends it twice; the effect happens once; promise 25."""
        destination, dead = await with_dead_letters(world)
        client, operator = await world.client(), world.connect(**world.brief_options)
        seen, effects, ready = Seen(), list[Any](), False

        @unimsg.idempotent(unimsg.store("memory://"))
        async def handle(delivery: Delivery[Any]) -> None:
            seen.note(delivery)
            if not ready:
                raise unimsg.DeadLetter("not ready")
            effects.append(delivery.body)

        async with consuming(
            client, destination, handle, group=world.group, retry=quick(world), dead_letter=dead
        ) as subscriber:
            await client.publish(destination, "m", key="k")
            await eventually(lambda: subscriber.health().counters["dead_lettered"] == 1, "it is given up")
            ready = True
            faults = inject(operator)
            faults.always("settle", Fail(SettleError("the answer is no")))
            first = await operator.redrive(dead, group=world.group)
            assert first.redriven >= 1  # more when the lease ended under it, which is no second effect either
            await eventually(lambda: effects, "it runs again")
            faults.always("settle", None)
            await operator.aclose()
            await world.leases_end()
            again = await client.redrive(dead, group=world.group)
            await client.publish(destination, "end", key="k")
            await eventually(lambda: "end" in effects, "what came after it is handled")

        assert again.redriven == 1, "the dead letter was not there any more, so nothing was proved"
        assert effects == ["m", "end"]
        assert seen.attempts("m") == [1, 1]
        assert await letters(client, dead, world) == []


async def bury(client: Client, destination: str, dead: str, count: int, world: World) -> None:
    """Let so many messages become dead letters; of numbers the reason says whether they are odd."""

    async def handle(delivery: Delivery[Any]) -> None:
        odd = isinstance(delivery.body, int) and delivery.body % 2
        raise unimsg.DeadLetter("odd" if odd else "even")

    async with consuming(client, destination, handle, group=world.group, dead_letter=dead) as subscriber:
        await eventually(
            lambda: subscriber.health().counters["dead_lettered"] == count, f"{count} are dead letters"
        )
