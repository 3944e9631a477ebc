"""The consuming loop against a receiver made by hand: verdicts, settlement, stop, loss (promises 5 to 18, 21)."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from tests.unit.consuming.harness import LIMITS, FakeReceiver, World, leased, until
from unimsg.capabilities import Capabilities
from unimsg.consuming.delivery import Delivery
from unimsg.errors import (
    AssignmentLostError,
    ConfigError,
    ConnectionLostError,
    DeadLetter,
    Defer,
    Fail,
    LeaseLostError,
    NotFoundError,
    NotSentError,
    SettleError,
    ThrottledError,
    UnavailableError,
)
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Assignment, ReceiveLimits

LOG = ReceiveLimits(max_messages=100, wait=1.0, ack="cumulative", retry="core", release="none")
FAST = RetryPolicy(max_attempts=3, initial=0.001, max=0.002, jitter="none")


def balance(world: World) -> None:
    """Promise 21: everything received has exactly one outcome."""
    c = world.counters
    outcomes = ("acked", "failed", "deferred", "dead_lettered", "released", "lost", "expired")
    assert c["received"] == sum(c[name] for name in outcomes) + world.subscriber.health().in_flight


async def test_what_is_handled_is_acked_once_and_in_batches() -> None:
    world = World(concurrency=4)
    world.receiver.feed(*[b"1"] * 250)
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery._received.token)

    health = await world.subscriber.run_until_idle(handle)
    assert sorted(seen) == list(range(250))
    assert sorted(token for verb, token in world.receiver.verbs()) == list(range(250))
    assert health.counters["acked"] == 250
    balance(world)


async def test_one_key_never_overlaps_and_keeps_its_order() -> None:
    """Promise 6."""
    world = World(concurrency=8, order="key", retry=FAST)
    for number in range(60):
        world.receiver.feed(b"1", key=f"k{number % 3}")
    running: set[str | None] = set()
    order: dict[str | None, list[Any]] = {}
    failed: set[Any] = set()

    async def handle(delivery: Delivery[Any]) -> None:
        assert delivery.key not in running
        running.add(delivery.key)
        await asyncio.sleep(0.001)
        running.discard(delivery.key)
        token = delivery._received.token
        if token % 7 == 0 and token not in failed:
            failed.add(token)
            raise ValueError("once")
        order.setdefault(delivery.key, []).append(token)

    await world.subscriber.run_until_idle(handle)
    for tokens in order.values():
        assert tokens == sorted(tokens)
    assert sum(map(len, order.values())) == 60
    balance(world)


async def test_a_context_variable_does_not_reach_the_next_message() -> None:
    mark: contextvars.ContextVar[int] = contextvars.ContextVar("mark", default=0)
    world = World(concurrency=1)
    world.receiver.feed(*[b"1"] * 20)
    seen: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(mark.get())
        mark.set(1)
        await asyncio.sleep(0)
        assert mark.get() == 1

    await world.subscriber.run_until_idle(handle)
    assert seen == [0] * 20


async def test_a_log_commits_only_the_done_prefix_and_a_stop_takes_the_rest_back() -> None:
    """Promise 7."""
    world = World(limits=LOG, concurrency=5, order="none", drain=0.05)
    part = Assignment("p0")
    world.receiver.feed(*[b"1"] * 5, assignment=part)
    blocked = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        if delivery._received.token == 2:
            await blocked.wait()

    task = world.start(handle)
    await until(lambda: world.counters.get("acked") == 4)
    await world.stop(task)
    assert max(token for _, token in world.receiver.verbs()) == 1
    assert world.counters["released"] == 1
    balance(world)


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


async def test_stop_drains_what_runs_and_gives_back_the_rest() -> None:
    """Promise 17."""
    world = World(concurrency=2, drain=1.0)
    world.receiver.feed(*[b"1"] * 10)
    go = asyncio.Event()
    started: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        started.append(delivery._received.token)
        await go.wait()

    task = world.start(handle)
    await until(lambda: len(started) == 2)
    stopping = asyncio.create_task(world.subscriber.aclose())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    assert not [verb for verb, _ in world.receiver.verbs() if verb == "release"], (
        "the last poll must end first"
    )
    go.set()
    await stopping
    await task
    verbs = {token: verb for verb, token in world.receiver.verbs()}
    acked = {token for token, verb in verbs.items() if verb == "ack"}
    assert acked == set(started)
    assert {token for token, verb in verbs.items() if verb == "release"} == set(world.receiver.given) - acked
    assert world.receiver.stopped == 1
    assert world.receiver.closed == [False]
    balance(world)


async def test_stop_beyond_the_budget_cancels_and_counts_nothing() -> None:
    world = World(concurrency=1, drain=0.01)
    world.receiver.feed(b"1")
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = world.start(handle)
    await started.wait()
    await world.stop(task)
    assert cancelled.is_set()
    assert world.receiver.verbs() == [("release", 0)]
    assert world.counters["released"] == 1
    assert world.counters["failed"] == 0
    balance(world)


async def test_a_second_cancellation_hurries() -> None:
    world = World(concurrency=1, drain=100)
    world.receiver.feed(b"1")
    started = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await asyncio.sleep(1000)

    task = world.start(handle)
    await started.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert world.receiver.verbs() == [("release", 0)]


async def test_a_lost_connection_is_opened_again_and_nothing_of_it_is_acked() -> None:
    """Promise 8, rule 7 of the seam."""
    world = World(concurrency=2)
    world.receiver.feed(b"1")
    first = world.receiver
    started = asyncio.Event()
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        if delivery.body == 1:
            started.set()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(100)
            assert delivery.lease_lost
            with pytest.raises(LeaseLostError):
                await delivery.ack()

    task = world.start(handle)
    await started.wait()
    first.fail_receive.append(ConnectionLostError("cut"))
    first.arrived.set()
    await until(lambda: world.opened == 2 and len(world.receivers) == 2)
    world.receiver.feed(b"2")
    await until(lambda: seen == [1, 2])
    await until(lambda: world.receiver.settled)
    assert not first.settled
    assert first.closed == [True]
    assert world.counters["lost"] == 1
    await world.stop(task)
    balance(world)


async def test_throttling_keeps_the_receiver() -> None:
    world = World()
    world.receiver.fail_receive.append(ThrottledError("slow down", retry_after=0.01))
    world.receiver.feed(b"1")
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)

    task = world.start(handle)
    await until(lambda: seen)
    assert world.opened == 1
    await world.stop(task)


async def test_the_first_open_gives_up_only_on_what_is_permanent() -> None:
    world = World()
    world.open_errors += [UnavailableError("later"), UnavailableError("later")]

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(handle)
    await until(lambda: world.opened == 3)
    await world.stop(task)

    world = World()
    world.open_errors.append(NotFoundError("no such queue"))
    with pytest.raises(NotFoundError):
        await world.subscriber.run(handle)


async def test_a_lost_assignment_is_not_acked_and_its_handler_is_told() -> None:
    """Rule 5 of the seam."""
    world = World(limits=LOG, concurrency=2, order="none")
    mine, other = Assignment("p0"), Assignment("p1")
    world.receiver.feed(b"1", assignment=mine)
    world.receiver.feed(b"2", assignment=other)
    started = asyncio.Event()
    told: list[bool] = []

    async def handle(delivery: Delivery[Any]) -> None:
        if delivery.body == 1:
            started.set()
            try:
                await asyncio.sleep(100)
            finally:
                told.append(delivery.lease_lost)
                with pytest.raises(AssignmentLostError):
                    await delivery.ack()

    task = world.start(handle)
    await started.wait()
    await until(lambda: world.receiver.settled)
    mine.live = False
    world.events.lost([mine])  # type: ignore[union-attr]  # it is open
    await until(lambda: told)
    assert told == [True]
    await world.stop(task)
    assert world.receiver.verbs() == [("ack", 1)]
    balance(world)


async def test_a_revoked_assignment_is_drained_first() -> None:
    world = World(limits=LOG, concurrency=1, order="none")
    mine = Assignment("p0")
    world.receiver.feed(b"1", b"2", b"3", assignment=mine)
    go = asyncio.Event()
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        await go.wait()

    task = world.start(handle)
    await until(lambda: seen)
    loop = asyncio.get_running_loop()
    revoking = asyncio.create_task(world.events.revoked([mine], loop.time() + 5))  # type: ignore[union-attr]
    await asyncio.sleep(0.01)
    assert not revoking.done()
    go.set()
    await revoking
    assert seen == [1], "what had not started goes back"
    assert world.receiver.verbs() == [("ack", 0)]
    await world.stop(task)
    balance(world)


async def test_leases_are_extended_in_batches_and_a_lost_one_is_told() -> None:
    """Promise 8."""
    world = World(capabilities=leased(0.12), concurrency=3)
    loop = asyncio.get_running_loop()
    world.receiver.feed(b"1", b"2", b"3", lease_until=loop.time() + 0.12)
    world.receiver.refuse_extend = {2}
    go = asyncio.Event()
    lost: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        try:
            await go.wait()
        except asyncio.CancelledError:
            lost.append(delivery.body)
            raise

    task = world.start(handle)
    await until(lambda: world.receiver.extended.count(0) >= 3)
    assert lost == [3]
    go.set()
    await until(lambda: len(world.receiver.settled) == 2)
    assert sorted(world.receiver.verbs()) == [("ack", 0), ("ack", 1)]
    await world.stop(task)
    balance(world)


async def test_what_is_past_its_lease_is_never_acked() -> None:
    world = World(concurrency=1)
    loop = asyncio.get_running_loop()
    world.receiver.feed(b"1", lease_until=loop.time() + 0.01)

    async def handle(delivery: Delivery[Any]) -> None:
        await asyncio.sleep(0.03)

    task = world.start(handle)
    await until(lambda: world.counters.get("lost") == 1)
    assert not world.receiver.settled
    await world.stop(task)
    balance(world)


async def test_settling_is_tried_again_and_reported_when_it_cannot_be() -> None:
    world = World(concurrency=1)
    world.receiver.fail_settle += [UnavailableError("later"), [None, LeaseLostError("gone")]]
    world.receiver.feed(b"1", b"2")

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(handle)
    await until(lambda: world.counters.get("acked") == 1 and world.counters.get("lost") == 1)
    await world.stop(task)
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


async def test_iterating_settles_by_the_block() -> None:
    world = World(retry=FAST, dead_letter="dead", order="key")
    world.receiver.feed(b"1", b"2", b"3", key="k")
    seen: list[Any] = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is the thing
        async for delivery in world.subscriber:
            async with delivery:
                seen.append(delivery.body)
                if delivery.body == 2:
                    raise ZeroDivisionError
    await until(lambda: world.receiver.closed)
    assert seen == [1, 2]
    assert ("ack", 0) in world.receiver.verbs()
    assert ("ack", 1) not in world.receiver.verbs()
    assert ("ack", 2) not in world.receiver.verbs()


async def test_batches_are_handled_together_and_settled_apart() -> None:
    world = World(batch=4, batch_wait=0.01, concurrency=2, retry=FAST, dead_letter="dead")
    world.receiver.feed(*[str(n).encode() for n in range(10)])
    sizes: list[int] = []

    async def handle(deliveries: list[Delivery[Any]]) -> None:
        sizes.append(len(deliveries))
        for delivery in deliveries:
            if delivery.body == 3:
                await delivery.dead_letter("odd")

    await world.subscriber.run_until_idle(handle)
    assert sum(sizes) == 10
    assert max(sizes) == 4
    assert world.counters["dead_lettered"] == 1
    assert world.counters["acked"] == 9
    balance(world)


async def test_pause_starts_nothing_and_resume_goes_on() -> None:
    world = World(concurrency=1)
    world.receiver.feed(b"1", b"2", b"3")
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        if delivery.body == 1:
            world.subscriber.pause()

    task = world.start(handle)
    await until(lambda: seen)
    await asyncio.sleep(0.02)
    assert seen == [1]
    world.subscriber.resume()
    await until(lambda: seen == [1, 2, 3])
    await world.stop(task)


async def test_a_poll_that_cannot_be_cancelled_needs_a_longer_drain() -> None:
    world = World(limits=ReceiveLimits(max_messages=10, wait=20, cancel_safe=False), drain=5)

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    with pytest.raises(ConfigError, match="drain"):
        await world.subscriber.run(handle)
    assert world.receiver.closed == [True]


async def test_what_a_last_poll_catches_is_released_after_it() -> None:
    """Promise 17: a poll that is open at the broker would capture what was just released."""
    limits = ReceiveLimits(max_messages=10, wait=0.2, cancel_safe=False)
    world = World(limits=limits, drain=5)
    started = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()

    world.receiver.feed(b"1")
    task = world.start(handle)
    await started.wait()
    await until(lambda: len(world.receiver.polls) > 1)
    stopping = asyncio.create_task(world.subscriber.aclose())
    await asyncio.sleep(0.01)
    world.receiver.feed(b"2")
    await stopping
    await task
    assert world.receiver.verbs() == [("ack", 0), ("release", 1)]
    balance(world)


async def test_prefetch_bounds_what_is_in_hand() -> None:
    """Promise 18."""
    world = World(concurrency=1, prefetch=5)
    world.receiver.feed(*[b"1"] * 50)
    go = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        await go.wait()

    task = world.start(handle)
    await until(lambda: world.receiver.given)
    await asyncio.sleep(0.02)
    assert len(world.receiver.given) <= 5
    go.set()
    await world.stop(task)


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


async def test_no_task_outlives_a_subscriber() -> None:
    before = asyncio.all_tasks()
    world = World(capabilities=leased(), concurrency=7)
    world.receiver.feed(*[b"1"] * 20)

    async def handle(delivery: Delivery[Any]) -> None:
        await asyncio.sleep(0)

    await world.subscriber.run_until_idle(handle)
    assert asyncio.all_tasks() == before


def test_limits_of_the_fake_are_those_of_a_lease_broker() -> None:
    assert isinstance(FakeReceiver.__init__.__defaults__, tuple)
    assert LIMITS.retry == "broker"
    assert Capabilities().lease is None


async def test_an_empty_answer_to_a_poll_that_began_in_the_middle_of_work_is_no_end() -> None:
    """A broker that blocks the lanes which are out has more to give once they are settled."""
    world = World(concurrency=1, order="key")
    receiver = world.receiver
    receiver.feed(b"1", key="k")
    receive, answers = receiver.receive_batch, list[Any]()

    async def blocked(max_messages: int, wait: float, /) -> Any:
        if receiver.given and len(receiver.settled) < len(receiver.given):
            await until(lambda: len(receiver.settled) == len(receiver.given))
            answers.append("empty")
            if len(receiver.given) == 1:
                receiver.feed(b"2", key="k")
            return []
        return await receive(max_messages, wait)

    receiver.receive_batch = blocked  # type: ignore[method-assign]  # as a FIFO queue answers
    seen: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        await asyncio.sleep(0.005)
        seen.append(delivery.body)

    await world.subscriber.run_until_idle(handle)
    assert answers
    assert seen == [1, 2]
