"""The consuming loop against a receiver made by hand: what flows, in order and within bounds (promises 6, 18, 21)."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.consuming.harness import FAST, LIMITS, FakeReceiver, World, balance, until
from unimsg.capabilities import Capabilities
from unimsg.consuming.delivery import Delivery
from unimsg.consuming.prefetch import Prefetch
from unimsg.spi import Received


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


async def test_the_end_is_known_after_one_empty_wait() -> None:
    """A poll that waits while messages are in hand proves nothing, and a lease might end while a second one waits."""
    world = World(limits=replace(LIMITS, idle=0.01), concurrency=4)
    world.receiver.feed(*[b"1"] * 3)
    waits: list[float] = []
    receive = world.receiver.receive_batch

    async def listening(max_messages: int, wait: float, /) -> Any:
        batch = await receive(max_messages, wait)
        if not batch:
            waits.append(wait)
        return batch

    world.receiver.receive_batch = listening  # type: ignore[method-assign]  # to see what was waited for in vain
    health = await world.subscriber.run_until_idle(slow)
    assert health.counters["acked"] == 3
    assert [wait for wait in waits if wait] == [0.01]


async def slow(_delivery: Delivery[Any]) -> None:
    await asyncio.sleep(0.02)


async def test_until_idle_asks_again_while_a_handler_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in hand may wait for what arrives late: nothing else would ever change."""
    monkeypatch.setattr("unimsg.consuming.intake.AGAIN", 0.01)
    world, both = World(concurrency=2), asyncio.Event()
    world.receiver.feed(b"1")
    seen: list[Any] = []

    async def meet(delivery: Delivery[Any]) -> None:
        seen.append(delivery.body)
        if len(seen) == 2:
            both.set()
        await both.wait()

    running = asyncio.create_task(world.subscriber.run_until_idle(meet))
    await until(lambda: seen and len(world.receiver.polls) > 1)
    world.receiver.feed(b"2")
    async with asyncio.timeout(5):
        await running
    assert seen == [1, 2]


async def test_what_an_empty_answer_leaves_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One poll waits for room that another has asked for; the other comes back empty, and nothing is in hand."""
    target = 100
    # the real one goes by the measured rate: here it falls while two polls are out
    monkeypatch.setattr(Prefetch, "target", property(lambda _: target))
    world = World(limits=replace(LIMITS, max_messages=2, in_flight=2), concurrency=1)
    polls: list[asyncio.Future[list[Received]]] = []

    async def by_hand(_max_messages: int, _wait: float, /) -> list[Received]:
        polls.append(asyncio.get_running_loop().create_future())
        return await polls[-1]

    world.receiver.receive_batch = by_hand  # type: ignore[method-assign]  # to answer one poll after the other
    world.receiver.feed(b"1", b"2")
    task = world.start(nothing)
    await until(lambda: polls)
    polls[0].set_result(list(world.receiver.fed))
    await until(lambda: len(polls) == 3 and world.counters["acked"] == 2)
    target = 2
    for poll in polls[1:]:
        poll.set_result([])
        await asyncio.sleep(0.01)  # until its pump stands still
    await until(lambda: len(polls) > 3)
    task.cancel()
    await asyncio.wait((task,))


async def nothing(_delivery: Delivery[Any]) -> None:
    """Succeed."""
