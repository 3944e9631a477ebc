"""What memory and sqlite promise alike of a receive that waits: what wakes it, what ends it."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.backends.harness import World, bodies, message, settle
from unimsg.errors import (
    LeaseLostError,
)


async def start_waiting(world: World, receiver: Any, wait: float = 60.0) -> asyncio.Task[Any]:
    """Start a receive that finds nothing yet."""
    task = asyncio.create_task(receiver.receive_batch(9, wait))
    await world.clock.settle()
    await receiver.lag()  # on sqlite: behind the first look in the writer's queue
    await world.clock.settle()
    assert not task.done()
    return task


async def test_a_message_wakes_a_waiting_receive(world: World) -> None:
    """E: no polling by the consumer; also over another client."""
    backend = await world.backend()
    task = await start_waiting(world, await world.receiver(backend))
    await world.send(backend, message("a"))

    assert bodies(await task) == ["a"]


async def test_the_end_of_a_lease_wakes_a_waiting_receive(world: World) -> None:
    """E: also of a lease that was taken after the waiting began."""
    backend = await world.backend(lease=10.0)
    waiting, dying = await world.receiver(backend), await world.receiver(backend)
    await world.send(backend, message("a", key="k"))
    await dying.receive_batch(1, 0)
    task = await start_waiting(world, waiting)
    await dying.aclose(abort=True)
    await world.clock.advance(10.1)

    assert bodies(await task) == ["a"]


async def test_the_end_of_a_delay_wakes_a_waiting_receive(world: World) -> None:
    """E: of a delayed message and of a delayed retry, shorter than what the receive waited for at first."""
    backend = await world.backend()
    receiver = await world.receiver(backend)
    await world.send(backend, message("a"))
    batch = await receiver.receive_batch(1, 0)
    task = await start_waiting(world, await world.receiver(backend))
    await settle(receiver, batch, "retry", 4.0)
    await receiver.lag()
    await world.clock.advance(4.1)
    assert bodies(await task) == ["a"]
    task = await start_waiting(world, receiver)
    await world.send(backend, message("b", delay=3.0))
    await receiver.lag()
    await world.clock.settle()
    await receiver.lag()
    await world.clock.advance(3.1)

    assert bodies(await task) == ["b"]


async def test_a_settled_lane_wakes_who_may_have_the_next(world: World) -> None:
    """E: another member, when the lane becomes free."""
    backend = await world.backend()
    one, two = await world.receiver(backend), await world.receiver(backend)
    await world.send(backend, message("a", key="k"), message("b", key="k"))
    batch = await one.receive_batch(1, 0)
    task = await start_waiting(world, two)
    await settle(one, batch)

    assert bodies(await task) == ["b"]


async def test_a_member_that_leaves_wakes_who_may_have_its_messages(world: World) -> None:
    """J: what is released is not stranded."""
    backend = await world.backend()
    one, two = await world.receiver(backend), await world.receiver(backend)
    await world.send(backend, message("a"))
    batch = await one.receive_batch(1, 0)
    task = await start_waiting(world, two)
    await one.aclose()

    assert bodies(await task) == ["a"]
    assert await settle(two, batch) == [LeaseLostError]


async def test_a_waiting_receive_ends_in_time_and_on_stop(world: World) -> None:
    """J: nothing new arrives after `stop_intake`."""
    backend = await world.backend()
    receiver = await world.receiver(backend)
    task = await start_waiting(world, receiver, 20.0)
    await world.clock.advance(20.1)
    assert await task == []
    task = await start_waiting(world, receiver)
    await receiver.stop_intake()
    assert await task == []
    await world.send(backend, message("a"))

    assert await receiver.receive_batch(9, 5) == []


async def test_a_cancelled_receive_strands_nothing(world: World) -> None:
    """I, K: what it was about to get goes to the next, in time."""
    backend = await world.backend()
    one, two = await world.receiver(backend), await world.receiver(backend)
    tasks = [await start_waiting(world, one), await start_waiting(world, two)]
    await world.send(backend, message("a"))
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    assert tasks[0].cancelled()

    assert bodies(await tasks[1]) == ["a"]


async def test_fifty_compete_and_each_message_goes_to_one(world: World) -> None:
    """D: fifty consumers of one group."""
    backend = await world.backend()
    receivers = [await world.receiver(backend, prefetch=40) for _ in range(50)]
    tasks = [asyncio.create_task(receiver.receive_batch(10, 60)) for receiver in receivers]
    for batch in range(50):
        await world.send(backend, *(message(f"{batch}/{n}", key=f"{batch}/{n}") for n in range(10)))
    batches = await asyncio.gather(*tasks)
    got = [body for batch in batches for body in bodies(batch)]

    assert len(got) == len(set(got))
    rest = await receivers[0].receive_batch(1000, 0)
    while more := await receivers[1].receive_batch(1000, 0):
        rest = [*rest, *more]
        await settle(receivers[1], more)
    assert len(set(got) | set(bodies(rest))) == len(got) + len(rest)
