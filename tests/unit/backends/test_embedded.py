"""What memory and sqlite promise alike, tried through the contract of `unimsg.spi`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

import pytest

from tests.unit.backends.harness import World, bodies, message, settle
from unimsg.errors import (
    BackendError,
    CapabilityError,
    ClosedError,
    LeaseLostError,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
)
from unimsg.message import Position
from unimsg.spi import Drift, Extends, Lags, Provisions, Seeks, Topology


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
    assert isinstance(receiver, Extends)
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


# ---------------------------------------------------------------- order


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


# ---------------------------------------------------------------- dedup


async def test_an_id_is_stored_once_within_the_window(world: World) -> None:
    """G: once within the window, twice after; within one batch too; told in the receipt."""
    backend = await world.backend(dedup=60.0)
    first = await world.send(backend, message("a", id="1"), message("a", id="1"), message("b", id="2"))
    await world.clock.advance(59)
    second = await world.send(backend, message("a", id="1"))
    await world.clock.advance(2)
    third = await world.send(backend, message("a", id="1"))

    assert [receipt.duplicate for receipt in (*first, *second, *third)] == [False, True, False, True, False]
    assert first[1].position == second[0].position == first[0].position
    assert bodies(await (await world.receiver(backend)).receive_batch(9, 0)) == ["a", "b", "a"]


async def test_dedup_knows_its_destination_and_messages_without_id(world: World) -> None:
    """G: scope."""
    backend = await world.backend()
    await world.send(backend, message("a", id="1"), message("n", id=None), message("n", id=None))
    await world.send(backend, message("a", id="1"), destination="other")

    assert bodies(await (await world.receiver(backend)).receive_batch(9, 0)) == ["a", "n", "n"]
    assert bodies(await (await world.receiver(backend, destination="other")).receive_batch(9, 0)) == ["a"]


async def test_dedup_can_be_off(world: World) -> None:
    """An option takes the capability, and says so."""
    backend = await world.backend(dedup=0.0)
    receipts = [
        *await world.send(backend, message("a", id="1")),
        *await world.send(backend, message("a", id="1")),
    ]

    assert not any(receipt.duplicate for receipt in receipts)
    assert backend.capabilities.dedup == "none"
    assert backend.capabilities.lowered["dedup"] == "option dedup=0s"


# ---------------------------------------------------------------- where a group begins


async def test_a_group_begins_where_it_is_told(world: World) -> None:
    """D: oldest, newest, position, time; an existing group stays where it is."""
    backend = await world.backend()
    receipts = await world.send(backend, message("a"), message("b"))
    noon = datetime.fromtimestamp(time(), UTC) + timedelta(seconds=30)
    await world.clock.advance(60)
    await world.send(backend, message("c"))
    starts: dict[str, Any] = {
        "oldest": "oldest",
        "newest": "newest",
        "position": receipts[1].position,
        "time": noon,
        "early": datetime(2000, 1, 1, tzinfo=UTC),
        "late": noon + timedelta(days=1),
    }
    receivers = {name: await world.receiver(backend, name, start=start) for name, start in starts.items()}
    again = await world.receiver(backend, "newest", start="oldest")
    await world.send(backend, message("d"))
    found = {
        name: "".join(bodies(await receiver.receive_batch(9, 0))) for name, receiver in receivers.items()
    }

    assert found == {
        "oldest": "abcd", "newest": "d", "position": "bcd", "time": "cd", "early": "abcd", "late": "d",
    }  # fmt: skip
    assert await again.receive_batch(9, 0) == []


@pytest.mark.parametrize("start", [Position("other", 0), Position("orders", "x")])
async def test_a_foreign_position_is_refused(world: World, start: Position) -> None:
    """A position of another log is no place to start."""
    with pytest.raises(OptionError, match="no position"):
        await world.receiver(await world.backend(), start=start)


async def test_seek_moves_the_group_and_forgets_what_was_out(world: World) -> None:
    """D: replay; a delivery from before the seek can no longer be settled."""
    backend = await world.backend()
    await world.send(backend, message("a", key="k"), message("b", key="k"), message("c"))
    receiver = await world.receiver(backend)
    assert isinstance(receiver, Seeks)
    old = await receiver.receive_batch(9, 0)
    await settle(receiver, old[:1])
    await receiver.seek("oldest")

    assert await settle(receiver, old[1:]) == [LeaseLostError] * 2
    new = await receiver.receive_batch(9, 0)
    assert bodies(new) == ["a", "b", "c"]
    assert await settle(receiver, old[1:]) == [LeaseLostError] * 2
    assert await settle(receiver, new) == []
    await receiver.seek("newest")
    assert await receiver.receive_batch(9, 0) == []


async def test_seek_is_refused_while_another_member_lives(world: World) -> None:
    """Seek moves the whole group."""
    backend = await world.backend()
    one, two = await world.receiver(backend), await world.receiver(backend)
    with pytest.raises(BackendError, match="1 other live members"):
        await one.seek("oldest")
    await two.aclose()

    await one.seek("oldest")


async def test_lag_counts_what_waits(world: World) -> None:
    """`Lags`: new, behind in a lane, put off; not what is out."""
    backend = await world.backend()
    receiver = await world.receiver(backend)
    await world.send(backend, *(message(str(n), key="k") for n in range(4)), message("x", delay=9.0))
    assert isinstance(receiver, Lags)
    assert await receiver.lag() == 5
    batch = await receiver.receive_batch(1, 0)
    assert await receiver.lag() == 4
    await settle(receiver, batch, "retry", 5.0)

    assert await receiver.lag() == 5


# ---------------------------------------------------------------- waiting


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


# ---------------------------------------------------------------- names, limits, life


async def test_names_are_portable_unless_told_otherwise(world: World) -> None:
    """Names that another backend could not have are found early."""
    strict, free = await world.backend(), await world.backend(names="any")
    for name in ("a.b", "a" * 61, "ü", "a b"):
        with pytest.raises(OptionError, match="not portable"):
            await strict.open_sender(name)
        with pytest.raises(OptionError, match="not portable"):
            await world.receiver(strict, name)
        await free.open_sender(name)


async def test_a_group_is_required(world: World) -> None:
    """There is no plain subscription here."""
    backend = await world.backend()
    with pytest.raises(CapabilityError, match="a group is required"):
        await world.receiver(backend, None)  # type: ignore[arg-type]


async def test_nothing_comes_into_being_when_that_is_forbidden(world: World) -> None:
    """A: a missing destination is told; provisioning makes it, twice is once."""
    await world.backend()  # the file itself
    backend = await world.backend(create=False)
    with pytest.raises(NotFoundError, match="provision it"):
        await backend.open_sender("orders")
    with pytest.raises(NotFoundError, match="provision it"):
        await world.receiver(backend)
    assert isinstance(backend, Provisions)
    topology = Topology(destination="orders", groups=("g",), dead_letter="dead")

    def states(drifts: Any) -> list[str]:
        assert all(isinstance(drift, Drift) for drift in drifts)
        return [drift.state for drift in drifts]

    assert states(await backend.provision(topology, "existing")) == ["missing"] * 3
    with pytest.raises(NotFoundError):
        await backend.open_sender("orders")
    assert states(await backend.provision(topology, "ensure")) == ["created"] * 3
    assert states(await backend.provision(topology, "ensure")) == ["present"] * 3
    await world.send(backend, message("a"))
    assert bodies(await (await world.receiver(backend)).receive_batch(9, 0)) == ["a"]


async def test_a_provisioned_group_keeps_what_came_before_its_first_consumer(world: World) -> None:
    """D: required group; it begins where it was made, also for `start="newest"`."""
    backend = await world.backend()
    await backend.provision(Topology(destination="orders", groups=("g",)), "ensure")
    await world.send(backend, message("a"))

    assert bodies(await (await world.receiver(backend, start="newest")).receive_batch(9, 0)) == ["a"]


async def test_sizes_are_measured_and_refused(world: World) -> None:
    """Promise 19: body and headers in bytes; the number and the fix in the error."""
    backend = await world.backend(max_body=10)
    limits = (await backend.open_sender("orders")).limits
    assert limits.measure(message("12345", headers={"a": "ü"})) == 8
    with pytest.raises(MessageTooLargeError, match="11 bytes, the limit is 10") as caught:
        limits.measure(message("12345678901"))

    assert (caught.value.size, caught.value.limit) == (11, 10)


async def test_use_after_close_is_told(world: World) -> None:
    """A: sender, receiver, backend; closing twice is fine."""
    backend = await world.backend()
    sender, receiver = await backend.open_sender("orders"), await world.receiver(backend)
    for _ in range(2):
        await sender.aclose()
        await receiver.aclose()
    with pytest.raises(ClosedError):
        await sender.send_batch([message("a")], 0)
    with pytest.raises(ClosedError):
        await receiver.receive_batch(1, 0)
    await backend.aclose()
    await backend.aclose()
    with pytest.raises(ClosedError):
        await backend.open_sender("orders")
    with pytest.raises(ClosedError):
        await backend.probe()


async def test_an_aborted_receiver_gives_back_when_its_leases_end(world: World) -> None:
    """I: `abort` asks nobody."""
    backend = await world.backend(lease=10.0)
    await world.send(backend, message("a", key="k"))
    dying, other = await world.receiver(backend), await world.receiver(backend)
    await dying.receive_batch(1, 0)
    await dying.aclose(abort=True)
    assert await other.receive_batch(1, 0) == []
    await world.clock.advance(10.1)

    assert bodies(await other.receive_batch(1, 0)) == ["a"]


async def test_two_clients_share_a_broker(world: World) -> None:
    """One connection writes, the other reads; closing one does not matter to the other."""
    one, two = await world.backend(), await world.backend()
    await world.send(one, message("a"))
    await one.aclose()

    assert bodies(await (await world.receiver(two)).receive_batch(1, 0)) == ["a"]
