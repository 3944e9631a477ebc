"""Consuming from a real Kafka: membership, shares that come and go, where a group begins, transactions.

Law: what the receiver promises and the client library alone would not give. Members are clients in this process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import UnknownError

import unimsg
from tests.kafka.conftest import MakeTopic
from unimsg.backends.kafka import Options, native, wire
from unimsg.backends.kafka.positions import Positions
from unimsg.consuming import intake
from unimsg.errors import BackendError, ConfigError, OptionError
from unimsg.message import Message, Position
from unimsg.options import parse
from unimsg.testing.conformance.world import consuming, eventually, gather


@asynccontextmanager
async def connected(url: str, query: str = "") -> AsyncIterator[unimsg.Client]:
    """A client with more options."""
    async with unimsg.connect(f"{url}?session=6s{query}") as client:
        yield client


async def committed(url: str, group: str) -> dict[str, int]:
    """What a group has committed, by the plain client."""
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {f"{part.topic}-{part.partition}": at.offset for part, at in found.items()}


async def test_a_slow_handler_keeps_its_membership(url: str, topic: MakeTopic, group: str) -> None:
    """A full lane pauses, polling goes on: handlers outlast `poll_interval` many times."""
    name, go, started, done = await topic(partitions="1"), asyncio.Event(), asyncio.Event(), list[Any]()
    async with connected(url, "&poll_interval=1s") as client:
        await client.publisher(name).publish_many(Message(body=n, key="k") for n in range(300))

        async def slow(delivery: unimsg.Delivery[Any]) -> None:
            started.set()
            await go.wait()
            assert not delivery.lease_lost
            done.append(delivery.body)

        async with consuming(client, name, slow, group=group, prefetch=20) as subscriber:
            await started.wait()
            await asyncio.sleep(3.5)  # more than three times what a silent member is allowed
            assert subscriber.health().counters["received"] <= 20
            go.set()
            await eventually(lambda: len(done) == 300, "all are handled")
    assert done == list(range(300)), "nothing came twice, so the share was never lost"


async def test_a_hot_key_does_not_starve_another_partition(url: str, topic: MakeTopic, group: str) -> None:
    """Promise 18: its partition is paused before it fills the buffer; kills the mutant that ignores a pause."""
    name, go, hot = await topic(partitions="2"), asyncio.Event(), asyncio.Event()
    place = wire.placing(2)
    there, elsewhere = (next(f"k{n}" for n in range(99) if place(f"k{n}")[0] == part) for part in (0, 1))
    done: list[Any] = []
    async with connected(url) as client:
        await client.publisher(name).publish_many(Message(body="hot", key=there) for _ in range(300))

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            if delivery.body == "hot":
                hot.set()
                await go.wait()
            done.append(delivery.body)

        async with consuming(client, name, handle, group=group, order="key", prefetch=20) as one:
            await hot.wait()
            await eventually(lambda: one.health().counters["received"] > 5, "the hot key has its quarter")
            await client.publish(name, "cold", key=elsewhere)
            await eventually(lambda: done == ["cold"], "the other partition is served")
            go.set()


async def test_only_what_is_done_without_a_gap_is_committed(url: str, topic: MakeTopic, group: str) -> None:
    """Promise 7; kills the mutant that commits ahead."""
    name, stuck, done = await topic(partitions="1"), asyncio.Event(), set[Any]()
    async with connected(url) as client:
        await client.publisher(name).publish_many(Message(body=n, key=f"k{n}") for n in range(10))

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            if delivery.body == 4:
                await stuck.wait()
            done.add(delivery.body)

        async with consuming(client, name, handle, group=group, order="key", concurrency=10):
            await eventually(lambda: len(done) == 9, "all but one are done")
            async with asyncio.timeout(20):
                while (at := (await committed(url, group)).get(f"{name}-0", 0)) != 4:
                    assert at < 4, "what runs still is committed"
            stuck.set()
            await eventually(lambda: len(done) == 10, "the last is done")
    assert (await committed(url, group))[f"{name}-0"] == 10


async def test_a_share_that_is_taken_is_drained_and_committed(url: str, topic: MakeTopic, group: str) -> None:
    """A second member joins while handlers run: what they end within `handover` is not handled again."""
    name, seen = await topic(partitions="4"), list[Any]()
    running, go = asyncio.Event(), asyncio.Event()
    async with connected(url, "&handover=8s") as first, connected(url, "&handover=8s") as second:
        await first.publisher(name).publish_many(Message(body=n, key=f"k{n}") for n in range(200))

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            running.set()
            await go.wait()
            seen.append(delivery.body)

        async with consuming(first, name, handle, group=group, order="key", concurrency=4):
            await running.wait()
            async with consuming(second, name, handle, group=group, order="key", concurrency=4) as other:
                go.set()
                await eventually(lambda: len(set(seen)) == 200, "all are handled")
                await eventually(lambda: other.health().assignments, "the second has a share")
    assert sorted(seen) == list(range(200))


async def test_a_late_commit_is_fenced(url: str, topic: MakeTopic, group: str) -> None:
    """Kills the mutant that commits a share that was taken away: the assignment, not Kafka, says no."""
    name, events = await topic(partitions="1"), Heard()
    async with connected(url) as client:
        await client.publish(name, "x")
        receiver = await client.backend.open_receiver(name, group, "oldest", events, 10)
        (received,) = await receiver.receive_batch(10, 10.0)
        await receiver._member.on_partitions_revoked(set())  # type: ignore[attr-defined]  # as aiokafka does
        late = unimsg.spi.Settlement("ack", received.token, received.assignment)

        (error,) = await receiver.settle_batch([late])

        assert isinstance(error, unimsg.errors.AssignmentLostError)
        await receiver.aclose()
    assert (await committed(url, group)).get(f"{name}-0", 0) == 0


async def test_two_live_members_with_one_instance_id_are_told(url: str, topic: MakeTopic, group: str) -> None:
    """They put each other out for ever; health says why, and when one of them goes nothing is lost."""
    name, seen = await topic(), set[Any]()

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        seen.add(delivery.body)

    async with connected(url, "&instance_id=one") as first, connected(url, "&instance_id=one") as second:
        async with (
            consuming(first, name, note, group=group) as a,
            consuming(second, name, note, group=group) as b,
        ):
            await eventually(
                lambda: "instance_id=one" in str([a.health().reasons, b.health().reasons]),
                "health names the instance_id",
            )
            await first.publisher(name).publish_many(Message(body=n, key=f"k{n}") for n in range(50))
        await second.subscriber(name, group=group).run_until_idle(note)
    assert seen == set(range(50))


async def test_one_receive_of_five_seconds_tells_of_a_second_instance(
    url: str, topic: MakeTopic, group: str
) -> None:
    """With the error of a mistake in the configuration, which it is; at least one of the two is told."""
    name = await topic()
    async with connected(url, "&instance_id=one") as first, connected(url, "&instance_id=one") as second:
        receivers = [
            await client.backend.open_receiver(name, group, "oldest", Heard(), 10)
            for client in (first, second)
        ]
        answers = await asyncio.gather(
            *(receiver.receive_batch(10, 5.0) for receiver in receivers), return_exceptions=True
        )
        assert "instance_id=one" in str([end for end in answers if isinstance(end, ConfigError)])


async def test_a_static_member_comes_back_to_its_share(url: str, topic: MakeTopic, group: str) -> None:
    """A restart within the session takes nothing from anybody."""
    name = await topic(partitions="2")
    async with connected(url, "&instance_id=a") as first, connected(url, "&instance_id=b") as second:
        mine, theirs = Heard(), Heard()
        a = await first.backend.open_receiver(name, group, "oldest", mine, 10)
        await eventually(lambda: len(mine.held) == 2, "the first has both")
        b = await second.backend.open_receiver(name, group, "oldest", theirs, 10)
        await eventually(lambda: len(mine.held) == len(theirs.held) == 1, "each has one")
        before, share = theirs.revocations, mine.held
        await a.aclose()

        again = Heard()
        a = await first.backend.open_receiver(name, group, "oldest", again, 10)
        await eventually(lambda: again.held, "it is back")

        assert again.held == share
        assert theirs.revocations == before
        await a.aclose()
        await b.aclose()


@pytest.mark.parametrize("start", ["newest", "time", "position"])
async def test_a_group_begins_where_it_is_told(start: str, url: str, topic: MakeTopic, group: str) -> None:
    """And where that is, is committed at once: what comes while nobody is there is not skipped."""
    name = await topic(partitions="1")
    async with connected(url) as client:
        publisher = client.publisher(name)
        await publisher.publish_many(Message(body=n, timestamp=1_000_000.0 + n) for n in range(5))
        at: Any = {
            "newest": "newest",
            "time": datetime.fromtimestamp(1_000_003, UTC),
            "position": Position(f"{name}-0", 2),
        }[start]
        await client.subscriber(name, group=group, start=at).run_until_idle(_ignore)
        await publisher.publish(9)
        first = await committed(url, group)
        found = await gather(client, name, 1, group=group, start=at)
    assert first[f"{name}-0"] == 5
    assert found.bodies == [9]


async def _ignore(_: object) -> None:
    """It is acked."""


async def test_a_share_that_could_not_be_begun_is_asked_for_again(
    url: str, topic: MakeTopic, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 7: else its partitions would stay paused, and nobody would be told."""
    name, begin = await topic(partitions="1"), Positions.begin
    failures = [UnknownError("says the test")]

    async def fail_once(positions: Positions, parts: Any) -> None:
        if failures:
            raise failures.pop()
        await begin(positions, parts)

    monkeypatch.setattr(Positions, "begin", fail_once)
    async with connected(url) as client:
        await client.publish(name, "x", key="k")
        assert (await gather(client, name, 1, group=group)).bodies == ["x"]
    assert not failures


async def test_a_member_that_was_refused_asks_again(
    url: str, topic: MakeTopic, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 7: aiokafka waits until its error was asked for, and a member without a share had nothing to ask for."""
    name, join = await topic(partitions="1"), CoordinatorGroupRebalance.perform_group_join
    refusals = [UnknownError("says the test")]

    async def refuse_once(rebalance: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await join(rebalance)

    monkeypatch.setattr(CoordinatorGroupRebalance, "perform_group_join", refuse_once)
    async with connected(url) as client:
        await client.publish(name, "x", key="k")
        assert (await gather(client, name, 1, group=group)).bodies == ["x"]
    assert not refusals


async def test_a_group_is_moved_only_when_it_is_alone(url: str, topic: MakeTopic, group: str) -> None:
    """Seek by position and time; refused while others live."""
    name = await topic(partitions="2")
    async with connected(url) as client, connected(url) as other:
        receipt = await client.publish(name, "a", key="k")
        await client.publish(name, "b", key="k")
        assert (await gather(client, name, 2, group=group)).bodies == ["a", "b"]
        subscriber = client.subscriber(name, group=group)
        assert receipt.position is not None
        await subscriber.seek(receipt.position)
        assert (await gather(client, name, 2, group=group)).bodies == ["a", "b"]
        with pytest.raises(OptionError, match="no position in this topic"):
            await subscriber.seek(Position("elsewhere-0", 1))
        async with consuming(other, name, _ignore, group=group):
            others = client.subscriber(name, group=group)
            with pytest.raises(BackendError, match="other live members"):
                await others.seek("oldest")


async def test_transactions_are_shown_when_they_are_whole(url: str, topic: MakeTopic, group: str) -> None:
    """`isolation=committed` hides what was aborted; and the end of the log is found behind its markers."""
    name = await topic(partitions="1")
    server = url.removeprefix("kafka://")
    async with AIOKafkaProducer(bootstrap_servers=server, transactional_id=os.urandom(4).hex()) as producer:
        async with producer.transaction():
            await producer.send_and_wait(name, b'"whole"')
        await producer.begin_transaction()
        await producer.send_and_wait(name, b'"aborted"')
        await producer.abort_transaction()
    seen: dict[str, list[Any]] = {"committed": [], "uncommitted": []}
    for isolation, got in seen.items():

        async def note(delivery: unimsg.Delivery[Any], got: list[Any] = got) -> None:
            got.append(delivery.body)
            assert native(delivery).topic == name

        async with connected(url, f"&isolation={isolation}") as client:
            await client.subscriber(name, group=f"{group}-{isolation}").run_until_idle(note)
    assert seen == {"committed": ["whole"], "uncommitted": ["whole", "aborted"]}


class Heard:
    """Events, counted."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.revocations = 0

    def assigned(self, assignments: Any, /) -> None:
        self.held = {assignment.id for assignment in assignments}

    async def revoked(self, assignments: Any, deadline: float, /) -> None:
        self.revocations += 1

    def lost(self, assignments: Any, /) -> None: ...
    def wake(self) -> None: ...


async def test_health_tells_the_lag(
    url: str, topic: MakeTopic, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not fetched yet, then nothing; None while there is no share: it is not known then."""
    monkeypatch.setattr(intake, "LAG_EVERY", 0.05)
    name, go = await topic(partitions="2"), asyncio.Event()
    async with connected(url) as client:
        await client.publisher(name).publish_many(Message(body=n, key=f"k{n}") for n in range(300))
        idle = client.subscriber(name, group=group)
        assert idle.health().lag is None

        async def wait(_: object) -> None:
            await go.wait()

        async with consuming(client, name, wait, group=group, prefetch=20) as subscriber:
            await eventually(lambda: subscriber.health().counters["received"] >= 20, "it is full")
            await eventually(
                lambda: subscriber.health().lag == 300 - subscriber.health().counters["received"],
                "the lag is what is not received",
            )
            go.set()
            await eventually(lambda: subscriber.health().lag == 0, "nothing stands before it")
        assert subscriber.health().lag is None


async def test_lag_is_what_stands_before_a_member(url: str, topic: MakeTopic, group: str) -> None:
    """And of many partitions each has its turn in a receive."""
    name = await topic(partitions="4")
    async with connected(url) as client:
        await client.publisher(name).publish_many(Message(body=n, key=f"k{n}") for n in range(400))
        backend = client.backend
        assert isinstance(parse(url, Options), Options)
        receiver = await backend.open_receiver(name, group, "oldest", Heard(), 10)
        first = await receiver.receive_batch(1, 10.0)
        assert await receiver.lag() == 399  # type: ignore[attr-defined]  # it is Lags
        async with asyncio.timeout(20):
            while (
                len(batch := await receiver.receive_batch(40, 1.0)) < 40
                or len({r.assignment for r in batch}) < 4
            ):
                first = [*first, *batch]
        await receiver.aclose()


async def test_a_group_that_nobody_wants_any_more_is_forgotten(
    url: str, topic: MakeTopic, group: str
) -> None:
    """`tail` leaves none behind. A group is one over all topics: where it reads another one too, it keeps all."""
    name, other = await topic(partitions="1"), await topic(partitions="1")
    async with connected(url) as client:
        for destination in (name, other):
            await client.publish(destination, "x", key="k")
            await gather(client, destination, 1, group=f"{group}-both")
        await gather(client, name, 1, group=group)
        backend = client.backend
        assert isinstance(backend, unimsg.spi.Forgets)
        await backend.forget(name, group)
        await backend.forget(name, f"{group}-both")
        await backend.forget(name, f"{group}-never")

    assert await committed(url, group) == {}
    assert len(await committed(url, f"{group}-both")) == 2
