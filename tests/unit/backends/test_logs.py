"""What memory and sqlite promise alike of a log: dedup, where a group begins, seek, lag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

import pytest

from tests.unit.backends.harness import World, bodies, message, settle
from unimsg.errors import (
    BackendError,
    LeaseLostError,
    OptionError,
)
from unimsg.message import Position
from unimsg.spi import Lags, Seeks


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
    assert issubclass(type(receiver), Seeks)
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
    assert issubclass(type(receiver), Lags)
    assert await receiver.lag() == 5
    batch = await receiver.receive_batch(1, 0)
    assert await receiver.lag() == 4
    await settle(receiver, batch, "retry", 5.0)

    assert await receiver.lag() == 5
