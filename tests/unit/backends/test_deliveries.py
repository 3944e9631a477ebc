"""What memory and sqlite promise alike of one delivery: what arrives, leases, verdicts, delays, ttl."""

from __future__ import annotations

import pytest

from tests.unit.backends.harness import World, bodies, message, settle
from unimsg.errors import (
    LeaseLostError,
)
from unimsg.spi import Extends


async def test_what_is_sent_arrives_as_it_was(world: World) -> None:
    """Promise 20, B: body, key, id, headers, content type and timestamp come back byte for byte."""
    backend = await world.backend()
    odd = {"plain": "a", "ünï": "täxt", "bytes": b"\xff\xfe".decode("utf-8", "surrogateescape"), "": ""}
    sent = [
        message("one", key="k", headers=odd, content_type="text/plain", timestamp=12.5),
        message("", key="", id=None),
        message("x", key=b"\xff".decode("utf-8", "surrogateescape"), id="i"),
    ]
    tombstone = sent[1].__class__(body=None, id="t")
    receipts = await world.send(backend, *sent, tombstone)
    batch = await (await world.receiver(backend)).receive_batch(10, 0)

    assert [received.message for received in batch] == [*sent, tombstone]
    assert [received.position for received in batch] == [receipt.position for receipt in receipts]
    assert [receipt.id for receipt in receipts] == [sent[0].id, None, "i", "t"]
    assert [received.lane for received in batch] == ["k", "", sent[2].key, None]


async def test_headers_are_kept_as_they_were_when_sent(world: World) -> None:
    """The sender's mapping is the sender's: changing it later changes nothing."""
    backend = await world.backend()
    headers = {"a": "1"}
    await world.send(backend, message("x", headers=headers))
    headers["a"] = "2"

    assert (await (await world.receiver(backend)).receive_batch(1, 0))[0].message.headers == {"a": "1"}


async def test_each_group_gets_every_message_and_members_of_one_compete(world: World) -> None:
    """D: two groups, and two members in one of them."""
    backend = await world.backend()
    await world.send(backend, *(message(str(n)) for n in range(6)))
    one, two = await world.receiver(backend, "a"), await world.receiver(backend, "a")
    other = await world.receiver(backend, "b")
    first, second = await one.receive_batch(4, 0), await two.receive_batch(4, 0)

    assert bodies(first) == ["0", "1", "2", "3"]
    assert bodies(second) == ["4", "5"]
    assert bodies(await other.receive_batch(10, 0)) == ["0", "1", "2", "3", "4", "5"]


async def test_destinations_do_not_mix(world: World) -> None:
    """D: isolation."""
    backend = await world.backend()
    await world.send(backend, message("a"))
    await world.send(backend, message("b"), destination="other")

    assert bodies(await (await world.receiver(backend, destination="other")).receive_batch(9, 0)) == ["b"]


async def test_acked_is_done_and_a_second_ack_is_told(world: World) -> None:
    """E: double ack; the position of a group outlives its consumer."""
    backend = await world.backend()
    await world.send(backend, message("a"), message("b"))
    receiver = await world.receiver(backend)
    batch = await receiver.receive_batch(1, 0)

    assert await settle(receiver, batch) == []
    assert await settle(receiver, batch) == [LeaseLostError]
    assert await settle(receiver, [*batch, *batch]) == [LeaseLostError, LeaseLostError]
    await receiver.aclose()
    assert bodies(await (await world.receiver(backend)).receive_batch(9, 0)) == ["b"]


async def test_twice_in_one_settle_batch_counts_once(world: World) -> None:
    """E: the same token twice in one call is one settlement and one error, in order."""
    backend = await world.backend()
    await world.send(backend, message("a", key="k"), message("b", key="k"))
    receiver = await world.receiver(backend)
    batch = await receiver.receive_batch(1, 0)

    assert await settle(receiver, [batch[0], batch[0]]) == [LeaseLostError]
    assert bodies(await receiver.receive_batch(9, 0)) == ["b"]


async def test_retry_counts_release_and_expiry_do_not(world: World) -> None:
    """Promises 9 and 10: `attempts` are the known failures, `deliveries` all deliveries."""
    backend = await world.backend(lease=30.0)
    await world.send(backend, message("a"))
    receiver = await world.receiver(backend)

    async def counts() -> tuple[int | None, int]:
        (received,) = await receiver.receive_batch(9, 0)
        counted = received.attempts, received.deliveries
        verb = {1: "retry", 2: "release"}.get(received.deliveries)
        if verb is None:
            await world.clock.advance(31)
        else:
            await settle(receiver, [received], verb)
        return counted

    assert [await counts() for _ in range(4)] == [(0, 1), (1, 2), (1, 3), (1, 4)]


async def test_the_end_of_a_lease_gives_the_message_again_and_fences_the_old_delivery(world: World) -> None:
    """Promise 8, E: a late ack is reported and acks nothing."""
    backend = await world.backend(lease=10.0)
    await world.send(backend, message("a"))
    one, two = await world.receiver(backend), await world.receiver(backend)
    old = await one.receive_batch(1, 0)
    assert old[0].lease_until == pytest.approx(world.clock.time() + 10)
    await world.clock.advance(9.9)
    assert await two.receive_batch(1, 0) == []
    await world.clock.advance(0.2)

    assert await settle(one, old) == [LeaseLostError]
    new = await two.receive_batch(1, 0)
    assert await settle(one, old) == [LeaseLostError]
    assert await settle(one, old, "retry") == [LeaseLostError]
    assert await settle(two, new) == []


async def test_an_extended_lease_holds(world: World) -> None:
    """E: keep-alive; and what is gone cannot be extended."""
    backend = await world.backend(lease=10.0)
    await world.send(backend, message("a"), message("b"), message("c"))
    receiver = await world.receiver(backend)
    assert issubclass(type(receiver), Extends)
    batch = await receiver.receive_batch(3, 0)
    for _ in range(3):
        await world.clock.advance(6)
        assert await receiver.extend_batch([batch[0].token], 10.0) == [None]
    await settle(receiver, [batch[0]])
    errors = await receiver.extend_batch([received.token for received in batch], 10.0)

    assert [type(error) for error in errors] == [LeaseLostError] * 3
    assert bodies(await receiver.receive_batch(9, 0)) == ["b", "c"]


async def test_delays_hold(world: World) -> None:
    """H: a delayed message and a delayed retry are not early."""
    backend = await world.backend()
    await world.send(backend, message("late", delay=5.0), message("now"))
    receiver = await world.receiver(backend)
    batch = await receiver.receive_batch(9, 0)
    assert bodies(batch) == ["now"]
    await settle(receiver, batch, "retry", 3.0)
    await world.clock.advance(2.9)
    assert await receiver.receive_batch(9, 0) == []
    await world.clock.advance(0.2)
    assert bodies(await receiver.receive_batch(9, 0)) == ["now"]
    await world.clock.advance(2)

    assert bodies(await receiver.receive_batch(9, 0)) == ["late"]


async def test_expired_messages_are_never_delivered(world: World) -> None:
    """H: ttl, for what is new, what came back, and what waits in a lane."""
    backend = await world.backend()
    await world.send(
        backend,
        message("a", ttl=5.0),
        message("b", key="k", ttl=5.0),
        message("c", key="k"),
        message("d", ttl=50.0),
    )
    receiver = await world.receiver(backend, prefetch=4)
    batch = await receiver.receive_batch(9, 0)
    await settle(receiver, batch, "release")
    await world.clock.advance(5.1)

    assert sorted(bodies(await receiver.receive_batch(9, 0))) == ["c", "d"]


async def test_unconsumed_messages_go_after_the_retention(world: World) -> None:
    """`retention`: dropped, for a group that is there and for one that comes late."""
    backend = await world.backend(retention=60.0)
    await world.send(backend, message("a"))
    receiver = await world.receiver(backend)
    await world.clock.advance(30)
    await world.send(backend, message("b"))
    await world.clock.advance(31)

    assert bodies(await receiver.receive_batch(9, 0)) == ["b"]
    assert bodies(await (await world.receiver(backend, "late")).receive_batch(9, 0)) == ["b"]
