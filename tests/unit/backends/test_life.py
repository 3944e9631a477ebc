"""What memory and sqlite promise alike of names, limits, opening and closing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.backends.harness import World, bodies, message
from unimsg.errors import (
    CapabilityError,
    ClosedError,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
)
from unimsg.spi import Drift, Provisions, Topology


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
        await world.receiver(backend, None)  # type: ignore[arg-type]  # what a caller may get wrong


async def test_nothing_comes_into_being_when_that_is_forbidden(world: World) -> None:
    """A: a missing destination is told; provisioning makes it, twice is once."""
    await world.backend()  # the file itself
    backend = await world.backend(create=False)
    with pytest.raises(NotFoundError, match="provision it"):
        await backend.open_sender("orders")
    with pytest.raises(NotFoundError, match="provision it"):
        await world.receiver(backend)
    assert issubclass(type(backend), Provisions)
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
