"""What memory and sqlite promise alike of order: lanes, members, what is handed back."""

from __future__ import annotations

from tests.unit.backends.harness import World, bodies, message, settle
from unimsg.errors import (
    LeaseLostError,
)


async def test_a_lane_is_with_one_member_at_a_time(world: World) -> None:
    """Promises 4 and 6, F: the next of a key goes to nobody else until all before it are settled."""
    backend = await world.backend()
    await world.send(backend, *(message(str(n), key="k") for n in range(5)), message("free", key="other"))
    one, two = await world.receiver(backend), await world.receiver(backend)
    first = await one.receive_batch(2, 0)
    assert bodies(first) == ["0", "1"]
    assert bodies(await two.receive_batch(9, 0)) == ["free"]
    await settle(one, first[:1])
    assert await two.receive_batch(9, 0) == []
    more = await one.receive_batch(1, 0)
    assert bodies(more) == ["2"]
    await settle(one, [first[1], more[0]])

    assert bodies(await two.receive_batch(9, 0)) == ["3", "4"]
    assert await one.receive_batch(9, 0) == []


async def test_a_lane_gets_a_quarter_of_the_prefetch(world: World) -> None:
    """Promise 18: a hot key cannot fill the buffer."""
    backend = await world.backend()
    await world.send(backend, *(message(str(n), key="hot") for n in range(9)), message("cold", key="cold"))
    receiver = await world.receiver(backend, prefetch=8)
    batch = await receiver.receive_batch(8, 0)
    assert bodies(batch) == ["0", "1", "cold"]
    await settle(receiver, batch[:1])

    assert bodies(await receiver.receive_batch(8, 0)) == ["2"]


async def test_never_more_out_than_the_prefetch(world: World) -> None:
    """E: prefetch 1 means no second message."""
    backend = await world.backend()
    await world.send(backend, message("a"), message("b"))
    receiver = await world.receiver(backend, prefetch=1)
    batch = await receiver.receive_batch(9, 0)
    assert bodies(batch) == ["a"]
    assert await receiver.receive_batch(9, 0) == []
    await settle(receiver, batch)

    assert bodies(await receiver.receive_batch(9, 0)) == ["b"]


async def test_a_retried_head_holds_its_lane(world: World) -> None:
    """F: a failed head holds its lane while others go on."""
    backend = await world.backend()
    await world.send(backend, message("a1", key="a"), message("b1", key="b"))
    receiver = await world.receiver(backend)
    batch = await receiver.receive_batch(9, 0)
    await settle(receiver, batch[:1], "retry", 5.0)
    await settle(receiver, batch[1:])
    await world.send(backend, message("a2", key="a"), message("b2", key="b"))
    assert bodies(await receiver.receive_batch(9, 0)) == ["b2"]
    await world.clock.advance(5.1)

    assert bodies(await receiver.receive_batch(9, 0)) == ["a1", "a2"]


async def test_a_delayed_message_holds_its_lane(world: World) -> None:
    """Promise 4: under one key a later message does not overtake a delayed one."""
    backend = await world.backend()
    await world.send(backend, message("a1", key="a", delay=5.0), message("a2", key="a"))
    receiver = await world.receiver(backend)
    assert await receiver.receive_batch(9, 0) == []
    await world.clock.advance(5.1)

    assert bodies(await receiver.receive_batch(9, 0)) == ["a1", "a2"]


async def test_a_lane_handed_back_comes_again_in_order(world: World) -> None:
    """`handback_keeps_order`: in whatever order the call names them, and before what waits behind."""
    backend = await world.backend()
    await world.send(backend, *(message(str(n), key="k") for n in range(5)))
    one, two = await world.receiver(backend), await world.receiver(backend)
    batch = await one.receive_batch(3, 0)
    await settle(one, [batch[2], batch[0], batch[1]], "release")

    assert bodies(await two.receive_batch(9, 0)) == ["0", "1", "2", "3", "4"]


async def test_the_end_of_one_lease_takes_back_its_lane(world: World) -> None:
    """`lease_covers_lane`: what is out behind it may not be acked, it would overtake; what is before it may."""
    backend = await world.backend(lease=10.0)
    await world.send(backend, *(message(str(n), key="k") for n in range(3)))
    one, two = await world.receiver(backend), await world.receiver(backend)
    batch = await one.receive_batch(9, 0)
    await one.extend_batch([batch[0].token, batch[2].token], 100.0)
    await world.clock.advance(11)

    assert await settle(one, [batch[2]]) == [LeaseLostError]
    assert await two.receive_batch(9, 0) == []
    assert await settle(one, [batch[0]]) == []
    assert bodies(await two.receive_batch(9, 0)) == ["1", "2"]


async def test_without_ordering_nothing_waits(world: World) -> None:
    """`ordering=none`: messages of one key go to any member, and have no lane."""
    backend = await world.backend(ordering="none")
    await world.send(backend, message("1", key="k"), message("2", key="k"))
    one, two = await world.receiver(backend), await world.receiver(backend)
    batch = await one.receive_batch(1, 0)

    assert [received.lane for received in batch] == [None]
    assert bodies(await two.receive_batch(9, 0)) == ["2"]
    assert backend.capabilities.ordering == "none"
    assert backend.capabilities.lowered == {"ordering": "option ordering=none"}
