"""C: publish, when some of it fails. Only what failed has failed, and only what may be sent again is sent again."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from unimsg.errors import (
    ConnectionLostError,
    Error,
    NotSentError,
    OutcomeUnknownError,
    PublishManyError,
    RejectedError,
    ThrottledError,
)
from unimsg.message import Message, Receipt, WireMessage
from unimsg.spi import SendLimits
from unimsg.testing.conformance.gate import Section, requires
from unimsg.testing.conformance.world import World, gather, limits_of, remaining
from unimsg.testing.faults import Fail, Faults, Hang, Some, inject

REFUSED = RejectedError("the service does not want this one, says the test")


class PublishFailures(Section):
    """Section C of the catalogue: partial failures, throttling, lost answers, deadlines, order meanwhile."""

    async def test_a_partial_failure_fails_only_the_entries_that_failed(self, world: World) -> None:
        """C: the others are confirmed, arrive, and are not sent a second time; promise 2."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        bad = {"m3", "m4", "m17"}
        faults.always("send", Some(lambda _at, message: REFUSED if message.id in bad else None))

        with pytest.raises(PublishManyError) as raised:
            await client.publisher(destination).publish_many(
                Message(body=number, id=f"m{number}") for number in range(20)
            )
        gathered = await gather(client, destination, 17, group=world.group)

        failed = {f"m{at}" for at, r in enumerate(raised.value.results) if isinstance(r, RejectedError)}
        confirmed = {r.id for r in raised.value.results if isinstance(r, Receipt)}
        assert failed == bad
        assert confirmed == {f"m{number}" for number in range(20)} - bad
        assert set(_sends(faults).values()) == {1}
        assert {d.id for d in gathered.deliveries} == confirmed
        assert (await remaining(client, destination, group=world.group)).bodies == []

    async def test_only_what_may_be_sent_again_is_sent_again(self, world: World) -> None:
        """C: with the same id, until it is confirmed; its neighbours once; promises 2, 3."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        left = Counter({"m1": 1, "m5": 2})

        def throttled(_at: int, message: WireMessage) -> Error | None:
            if left[message.id or ""] <= 0:
                return None
            left[message.id or ""] -= 1
            return ThrottledError("slow down, says the test")

        faults.always("send", Some(throttled))
        receipts = await client.publisher(destination).publish_many(
            Message(body=number, id=f"m{number}") for number in range(8)
        )
        gathered = await gather(client, destination, 8, group=world.group)

        assert [r.id for r in receipts] == [f"m{number}" for number in range(8)]
        assert _sends(faults) == {f"m{number}": {1: 2, 5: 3}.get(number, 1) for number in range(8)}
        assert sorted(gathered.bodies) == list(range(8))
        assert (await remaining(client, destination, group=world.group)).bodies == []

    async def test_a_throttled_publish_waits_as_long_as_the_service_says(self, world: World) -> None:
        """C: then it is confirmed, with its id, as one message; promises 2, 3, 11."""
        client, destination = world.connect(), await world.destination()
        faults, pause = inject(client), 4 * world.tick
        await client.__aenter__()
        slow = ThrottledError("slow down, says the test", retry_after=pause)
        faults.next("send", *([Some(lambda _at, _message: slow)] * 2))
        clock = asyncio.get_running_loop().time

        began = clock()
        receipt = await client.publish(destination, "one")
        took = clock() - began

        assert took >= 2 * pause
        assert _sends(faults) == {receipt.id: 3}
        assert (await gather(client, destination, 1, group=world.group)).bodies == ["one"]

    async def test_a_publish_whose_answer_is_lost_is_unknown_and_not_sent_again(self, world: World) -> None:
        """C: it may have arrived, so only its caller may repeat it, with the same id; promises 2, 3."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        await client.__aenter__()
        await client.publish(destination, "before")
        lost = ConnectionLostError("the connection broke, says the test")
        faults.next("send", Fail(lost, after=True))

        with pytest.raises(OutcomeUnknownError):
            await client.publish(destination, "one", id="m1")
        assert _sends(faults)["m1"] == 1
        await client.publish(destination, "one", id="m1")

        gathered = await gather(client, destination, 2, group=world.group)
        rest = await remaining(client, destination, group=world.group)
        assert {d.id for d in (*gathered.deliveries, *rest.deliveries) if d.body == "one"} == {"m1"}

    async def test_a_publish_ends_at_its_deadline_and_says_which_end_it_was(self, world: World) -> None:
        """C: handed over is unknown, still waiting is not sent; promise 2."""
        client, destination = world.connect(), await world.destination()
        faults, go = inject(client), asyncio.Event()
        await client.__aenter__()
        faults.next("open_sender", Hang(until=go))

        with pytest.raises(NotSentError):
            await client.publish(destination, "waiting", timeout=2 * world.tick)
        go.set()
        await client.publish(destination, "good")
        faults.next("send", Hang())
        with pytest.raises(OutcomeUnknownError):
            await client.publish(destination, "handed over", timeout=2 * world.tick)

        assert (await gather(client, destination, 1, group=world.group)).bodies == ["good"]
        assert [m.body for batch in faults.sent for m in batch] == [b'"good"', b'"handed over"']

    @requires(ordering="key")
    async def test_the_order_of_a_key_survives_batches_that_are_refused(self, world: World) -> None:
        """C: whole or in part, now and then, while others of the key wait to go out; promise 4."""
        random, keys, count = world.chance(), ("a", "b", "c"), 60
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        faults.limits["max_messages"] = 4
        await client.__aenter__()
        limits = await limits_of(client, destination)
        _refuse_some(faults, limits, random, calls=40)
        publisher = client.publisher(destination)

        many = await publisher.publish_many(
            Message(body=number, key=keys[number % 3]) for number in range(count)
        )
        alone = await asyncio.gather(
            *(publisher.publish(number, key=keys[number % 3]) for number in range(count, 2 * count))
        )
        gathered = await gather(client, destination, 2 * count, group=world.group, order="key")

        assert len(many) + len(alone) == 2 * count
        assert publisher.stats.resent > 0
        for at, key in enumerate(keys):
            arrived = [d.body for d in gathered.deliveries if d.key == key]
            assert arrived == list(range(at, 2 * count, 3)), f"key {key} is out of order or has gaps"

    @requires(ordering="key")
    async def test_an_unknown_end_holds_back_the_rest_of_its_key(self, world: World) -> None:
        """C: what follows it was not sent, so that the caller can go on in order; other keys go on; promise 4."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)
        faults.limits["max_messages"] = 1
        await client.__aenter__()
        unknown = OutcomeUnknownError("no answer came, says the test")
        faults.always("send", Some(lambda _at, m: unknown if m.id == "a1" else None))

        with pytest.raises(PublishManyError) as raised:
            await client.publisher(destination).publish_many(
                Message(body=f"{key}{number}", id=f"{key}{number}", key=key)
                for number in range(4)
                for key in ("a", "b")
            )

        ends = [type(result).__name__ for result in raised.value.results]
        assert ends[0::2] == ["Receipt", "OutcomeUnknownError", "NotSentError", "NotSentError"]
        assert ends[1::2] == ["Receipt"] * 4
        assert not {"a2", "a3"} & set(_sends(faults))
        gathered = await gather(client, destination, 5, group=world.group)
        assert sorted(gathered.bodies) == ["a0", "b0", "b1", "b2", "b3"]


def _sends(faults: Faults) -> Counter[str | None]:
    """How often each message was given to the service."""
    return Counter(message.id for batch in faults.sent for message in batch)


def _refuse_some(faults: Faults, limits: SendLimits, random: Random, calls: int) -> None:
    """Let some of the next sends be refused, in the way in which this service refuses: a batch, or some of it."""
    again = NotSentError("refused for once, says the test")

    def half(_at: int, _message: WireMessage) -> Error | None:
        return again if random.random() < 0.5 else None

    fault = Fail(again) if limits.atomic_lane else Some(half)
    faults.next("send", fault, *(fault if random.random() < 0.4 else None for _ in range(calls)))
