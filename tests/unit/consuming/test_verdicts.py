"""What becomes of a delivery whose handler did not simply succeed (promises 5, 9, 10, 13 to 16)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.consuming.harness import FAST, LIMITS, LOG, World, balance, until
from unimsg.consuming.decoding import HEADERS
from unimsg.consuming.delivery import Delivery
from unimsg.errors import DeadLetter, Defer, Error, Fail, NotSentError, SettleError
from unimsg.message import WireMessage
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Assignment, Received, ReceiveLimits, Settlement


async def test_attempts_then_a_dead_letter_then_the_ack() -> None:
    """Promises 5, 9, 14."""
    world = World(retry=FAST, dead_letter="dead")
    world.receiver.feed(b'{"a": 1}', key="k")
    attempts: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        attempts.append(delivery.attempt)
        raise ValueError("no")

    await world.subscriber.run_until_idle(handle)
    assert attempts == [1, 2, 3]
    ((target, letter),) = world.letters
    assert (target, letter.body, letter.id) == ("dead", b'{"a": 1}', "id-0")
    assert '"error_type":"ValueError"' in letter.headers["unimsg-dead-letter"]
    assert world.receiver.verbs() == [("ack", 0)]
    assert world.counters["dead_lettered"] == 1
    balance(world)


async def test_a_retry_without_a_lane_waits_at_the_broker() -> None:
    world = World(retry=FAST, order="none", dead_letter="dead")
    world.receiver.feed(b"1")

    async def handle(delivery: Delivery[Any]) -> None:
        raise Fail("later", delay=7)

    task = world.start(handle)
    await until(lambda: world.receiver.settled)
    assert [(s.verb, s.delay) for s in world.receiver.settled] == [("retry", 7.0)]
    await world.stop(task)
    balance(world)


async def test_a_defer_counts_nothing() -> None:
    world = World(retry=FAST)
    world.receiver.feed(b"1", key="k")
    attempts: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) < 6:
            raise Defer(0.001)

    await world.subscriber.run_until_idle(handle)
    assert attempts == [1] * 6
    assert world.counters["deferred"] == 5
    balance(world)


async def test_without_a_dead_letter_destination_it_stays_and_health_turns_red() -> None:
    """Promise 16."""
    world = World(retry=RetryPolicy(max_attempts=1, initial=0.001, max=0.002, jitter="none"))
    world.receiver.feed(b"1", key="k")
    world.receiver.feed(b"2", key="k")
    attempts: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        attempts.append(delivery._received.token)
        raise ValueError("no")

    task = world.start(handle)
    await until(lambda: len(attempts) > 5)
    assert set(attempts) == {0}, "the key waits behind its head"
    assert world.subscriber.health().reasons
    assert not world.receiver.settled
    await world.stop(task)
    balance(world)


async def test_a_dead_letter_that_cannot_be_written_leaves_the_original() -> None:
    """Promise 15."""
    world = World(retry=RetryPolicy(max_attempts=1), dead_letter="dead")
    world.letter_errors.append(NotSentError("the way out is down"))
    world.receiver.feed(b"1", key="k")

    async def handle(delivery: Delivery[Any]) -> None:
        raise DeadLetter("bad")

    task = world.start(handle)
    await until(lambda: world.subscriber.health().reasons)
    assert not world.receiver.settled
    assert world.subscriber.health().in_flight == 1
    await world.stop(task)
    assert not [verb for verb, _ in world.receiver.verbs() if verb == "ack"]
    balance(world)


async def test_undecodable_goes_at_once_and_its_neighbours_do_not_notice() -> None:
    """Promise 13."""
    world = World(retry=FAST, dead_letter="dead")
    world.receiver.feed(b"1", b"{not json", b"3")
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    await world.subscriber.run_until_idle(handle)
    assert sorted(seen) == [1, 3]
    assert [letter.body for _, letter in world.letters] == [b"{not json"]
    assert world.counters["undecodable"] == 1
    balance(world)


@pytest.mark.parametrize(
    ("size", "headers"),
    [(11, 0), (1, HEADERS + 1)],
    ids=["a body over max_body", "more headers than the cap"],
)
async def test_too_much_of_a_message_is_not_decoded(size: int, headers: int) -> None:
    """Promise 13: it goes where undecodable ones go, as raw bytes; its neighbours do not notice."""
    world = World(retry=FAST, dead_letter="dead")
    world.subscriber._services = replace(world.subscriber._services, max_body=10)
    world.receiver.feed(b"1")
    many = {str(number): "" for number in range(headers)}
    message = WireMessage(body=b"2" * size, headers=many)
    world.receiver.fed.append(Received(message=message, token=1))
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    await world.subscriber.run_until_idle(handle)
    assert seen == [1]
    assert [letter.body for _, letter in world.letters] == [b"2" * size]
    assert world.counters["undecodable"] == 1
    balance(world)


async def test_a_handler_over_its_timeout_has_failed() -> None:
    world = World(retry=RetryPolicy(max_attempts=1), timeout=0.01, dead_letter="dead")
    world.receiver.feed(b"1", b"2")
    ended: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        if delivery.body == 1:
            await asyncio.sleep(100)
        ended.append(delivery.body)

    await world.subscriber.run_until_idle(handle)
    assert ended == [2]
    assert len(world.letters) == 1
    balance(world)


async def test_verbs_by_hand() -> None:
    """Promise 9: the same verb twice is one, another after the first is refused."""
    world = World(concurrency=1, retry=FAST, dead_letter="dead", order="key")
    world.receiver.feed(b"1", b"2", b"3", key="k")
    seen: list[tuple[Any, int]] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append((delivery.body, delivery.attempt))
        if delivery.body == 1:
            await delivery.ack()
            await delivery.ack()
            with pytest.raises(SettleError):
                await delivery.fail()
        elif delivery.body == 2 and delivery.attempt == 1:
            await delivery.fail(delay=0.001)
        elif delivery.body == 3:
            await delivery.dead_letter("mine")
            assert world.letters, "it returns when the dead letter is confirmed"

    await world.subscriber.run_until_idle(handle)
    assert seen == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert sorted(world.receiver.verbs()) == [("ack", 0), ("ack", 1), ("ack", 2)]
    balance(world)


async def test_a_message_that_kills_the_process_ends() -> None:
    """Promise 10: deliveries decide where no attempts are stored."""
    world = World(retry=RetryPolicy(max_attempts=2, max_deliveries=4), dead_letter="dead")
    world.receiver.feed(b"1", deliveries=5)
    ran: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        ran.append(1)

    await world.subscriber.run_until_idle(handle)
    assert not ran
    assert len(world.letters) == 1


async def test_a_returned_value_is_a_permanent_failure() -> None:
    world = World(retry=FAST, dead_letter="dead")
    world.receiver.feed(b"1")

    async def handle(delivery: Delivery[Any]) -> Any:
        return 42

    await world.subscriber.run_until_idle(handle)
    assert len(world.letters) == 1


@pytest.mark.parametrize("limits", [LIMITS, LOG], ids=["acks", "positions"])
async def test_a_burst_of_which_a_quarter_fails_does_not_pause_the_intake(limits: ReceiveLimits) -> None:
    """Promise 12: those that went well count, though no ack was confirmed yet; one that fails is known at once."""
    world = World(limits=limits, order="none", retry=FAST, concurrency=100)
    world.receiver.feed(*[b"1"] * 100, assignment=Assignment("p0"))
    settle, go = world.receiver.settle_batch, asyncio.Event()

    async def slow(settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        await go.wait()
        return await settle(settlements)

    world.receiver.settle_batch = slow  # type: ignore[method-assign]  # the service takes its time
    ran: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        token = delivery._received.token
        ran.append(token)
        if token % 4 == 0 and delivery.attempt == 1:
            raise ConnectionError("for once")

    task = world.start(handle)
    await until(lambda: len(set(ran)) == 100)
    assert "breaker" not in world.subscriber.health().reasons
    go.set()
    await world.stop(task)
