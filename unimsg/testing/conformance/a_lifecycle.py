"""A: lifecycle. Opening, closing, using what is closed; nothing leaks, nothing hangs, nothing is made uninvited."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

import unimsg
from unimsg.consuming import link, supervisor
from unimsg.errors import (
    BackendError,
    CapabilityError,
    ClosedError,
    ConnectError,
    NotFoundError,
    OutcomeUnknownError,
)
from unimsg.spi import Provisions, Topology
from unimsg.testing.conformance.gate import Section
from unimsg.testing.conformance.world import (
    PATIENCE,
    Gathered,
    World,
    consuming,
    eventually,
    gather,
    remaining,
)
from unimsg.testing.faults import Hang, Operation, inject

CLOSINGS: Sequence[Operation] = ("close", "close_sender", "close_receiver")
FOREVER = 3600.0
"""A timeout that no test outlasts: what ends before it was ended by something else."""


class Lifecycle(Section):
    """Section A of the catalogue."""

    async def test_a_missing_destination_is_not_found_within_a_bound(self, world: World) -> None:
        """A: both ways in say so at once instead of waiting for it to appear; principle 6."""
        client = await _strict(world)
        missing = world.name("missing")

        async with asyncio.timeout(PATIENCE):
            with pytest.raises(NotFoundError) as out:
                await client.publish(missing, "nowhere", timeout=FOREVER)
            with pytest.raises(NotFoundError):
                await client.subscriber(missing, group=world.group).run(Gathered(1))

        assert out.value.destination == missing

    async def test_use_after_close_is_refused(self, world: World) -> None:
        """A: publisher, subscriber and client say that they are closed, and nothing is sent."""
        client = world.connect()
        faults = inject(client)
        await client.__aenter__()
        destination = await world.destination()
        publisher = client.publisher(destination)
        subscriber = client.subscriber(destination, group=world.group)
        await client.aclose()

        with pytest.raises(ClosedError):
            await publisher.publish("late")
        with pytest.raises(ClosedError):
            await client.publish(destination, "late")
        with pytest.raises(ClosedError):
            async for _ in subscriber:
                pass
        with pytest.raises(ClosedError):
            await subscriber.run(Gathered(1))
        with pytest.raises(ClosedError):
            client.publisher(destination)
        with pytest.raises(ClosedError):
            client.subscriber(destination, group=world.group)
        with pytest.raises(ClosedError):
            await client.__aenter__()
        assert faults.sent == []
        assert faults.calls["receive"] == 0

    async def test_closing_twice_is_closing_once(self, world: World) -> None:
        """A: also when both happen at the same time; for publishers and subscribers as well."""
        client = await world.client()
        destination = await world.destination()
        publisher = client.publisher(destination)
        await publisher.publish("one")
        async with consuming(client, destination, Gathered(1), group=world.group) as subscriber:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(publisher.aclose(), publisher.aclose())
                await asyncio.gather(subscriber.aclose(), subscriber.aclose())
                await asyncio.gather(client.aclose(), client.aclose())
                await client.aclose()

        with pytest.raises(ClosedError):
            await publisher.publish("late")

    async def test_a_closed_client_leaves_its_messages(self, world: World) -> None:
        """A: what one client has published, the next one receives; promise 2."""
        destination = await world.destination()
        first = await world.client()
        await first.publish(destination, "kept")
        await first.aclose()

        second = await world.client()
        gathered = await gather(second, destination, 1, group=world.group)

        assert gathered.bodies == ["kept"]

    async def test_ten_clients_open_and_close_at_once_and_traffic_flows(self, world: World) -> None:
        """A: each of them publishes while others open and close; nothing of it is lost."""
        destination = await world.destination()

        async def visit(number: int) -> None:
            client = await world.client()
            await client.publish(destination, number)
            await client.aclose()

        await asyncio.gather(*(visit(number) for number in range(10)))

        after = await world.client()
        await after.publish(destination, 10)
        gathered = await gather(after, destination, 11, group=world.group)
        assert sorted(gathered.bodies) == list(range(11))

    # ------------------------------------------------------------ closing while something is under way

    async def test_closing_ends_a_publish_that_gets_no_answer(self, world: World) -> None:
        """A: within the budget, and its outcome is called unknown, not failed; promise 2."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        publisher = client.publisher(destination)
        faults.always("send", Hang())
        publish = asyncio.create_task(publisher.publish("one", timeout=FOREVER))
        await eventually(lambda: faults.calls["send"], "the message is handed over")

        async with asyncio.timeout(PATIENCE):
            await publisher.aclose(timeout=4 * world.tick)
            with pytest.raises(OutcomeUnknownError):
                await publish
            await client.aclose()

    async def test_closing_ends_a_receive_that_waits(self, world: World) -> None:
        """A: a consumer of an idle destination ends with its client."""
        client = world.connect()
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        run = asyncio.create_task(client.subscriber(destination, group=world.group).run(Gathered(1)))
        await eventually(lambda: faults.calls["receive"], "it polls")

        async with asyncio.timeout(PATIENCE):
            await client.aclose()
            await run

    async def test_closing_ends_a_handler_that_does_not(self, world: World) -> None:
        """A: cancelled after the drain budget; its message comes again, and no attempt was counted; promise 17."""
        client, destination = await world.client(lease=world.lease), await world.destination()
        started = asyncio.Event()
        ends: list[str] = []

        async def stuck(_: unimsg.Delivery[Any]) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        await client.publish(destination, "one")
        subscriber = client.subscriber(destination, group=world.group, drain=await _drain(world, client))
        run = asyncio.create_task(subscriber.run(stuck))
        async with asyncio.timeout(PATIENCE):
            await started.wait()
            await client.aclose()
            await run

        assert ends == ["cancelled"]
        again = await gather(await world.client(lease=world.lease), destination, 1, group=world.group)
        assert [(d.body, d.attempt) for d in again.deliveries] == [("one", 1)]

    async def test_closing_ends_an_ack_that_gets_no_answer(self, world: World) -> None:
        """A: within a bound; an ack that nobody confirmed is no ack: the message comes again; promises 1, 17."""
        client = world.connect(lease=world.lease)
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        await client.publish(destination, "one")
        faults.always("settle", Hang())
        drain = await _drain(world, client)
        run = asyncio.create_task(
            client.subscriber(destination, group=world.group, drain=drain).run(Gathered(1))
        )
        with _hurried():
            async with asyncio.timeout(PATIENCE):
                await eventually(lambda: faults.calls["settle"], "the ack is under way")
                await client.aclose()
                await run

        again = await gather(await world.client(lease=world.lease), destination, 1, group=world.group)
        assert again.bodies == ["one"]

    async def test_closing_is_bounded_when_the_broker_answers_nothing_any_more(self, world: World) -> None:
        """A: sends, receives, settlements and every close hang, and the client is closed all the same."""
        client = world.connect(lease=world.lease, open_timeout=max(0.5, 10 * world.tick))
        faults, destination = inject(client), await world.destination()
        await client.__aenter__()
        publisher = client.publisher(destination)
        await publisher.publish("one")
        gathered, drain = Gathered(1), await _drain(world, client)
        faults.always("settle", Hang())
        for operation in CLOSINGS:
            faults.always(operation, Hang())
        run = asyncio.create_task(
            client.subscriber(destination, group=world.group, drain=drain).run(gathered)
        )
        await gathered.enough()
        faults.always("send", Hang())
        publish = asyncio.create_task(publisher.publish("two", timeout=FOREVER))
        await eventually(lambda: faults.calls["send"] == 2, "a publish is under way")

        with _hurried():
            async with asyncio.timeout(PATIENCE):
                await publisher.aclose(timeout=4 * world.tick)
                await client.aclose()
                await run
                with pytest.raises(OutcomeUnknownError):
                    await publish

        faults.always("close", None)
        await client.backend.aclose()  # the broker answers again: let go of what is really open

    async def test_a_hundred_clients_leave_no_task_thread_or_file_behind(self, world: World) -> None:
        """A: opened, used, closed; sockets are files here."""
        destination = await world.destination()

        async def visit() -> None:
            client = world.connect()
            async with client:
                await client.publish(destination, "hello")

        for _ in range(5):
            await visit()
        before = _resources()
        for _ in range(100):
            await visit()
        await eventually(lambda: _resources() <= before, f"nothing is left beyond {before}")

    # ------------------------------------------------------------ whether it is there

    async def test_a_probe_tells_whether_the_service_is_there(self, world: World) -> None:
        """A: it passes, it fails while the service is down, and it passes again."""
        client = world.connect()
        faults = inject(client)
        await client.__aenter__()

        await client.backend.probe()
        async with faults.down():
            with pytest.raises(ConnectError):
                await client.backend.probe()
        await client.backend.probe()

    async def test_opening_fails_while_the_service_is_down_and_works_afterwards(self, world: World) -> None:
        """A: one attempt, refused with what happened; the same client can be entered later."""
        client, destination = world.connect(), await world.destination()
        faults = inject(client)

        async with faults.down():
            with pytest.raises(ConnectError):
                await client.__aenter__()
        await client.__aenter__()

        await client.publish(destination, "back")
        assert (await gather(client, destination, 1, group=world.group)).bodies == ["back"]

    async def test_where_nobody_answers_opening_fails(self, world: World) -> None:
        """A: within `open_timeout`, with an error of ours."""
        if world.nowhere is None:
            world.cannot("it is in this process: every URL of it leads somewhere")
        client = unimsg.connect(world.nowhere)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((BackendError, unimsg.errors.OptionError)):
                await client.__aenter__()
            await client.aclose()

    async def test_a_client_opens_one_connection_whoever_comes_first(self, world: World) -> None:
        """A: publishers and subscribers that need it at the same time share it; opened at first use."""
        client = world.connect(open="lazy")
        faults = inject(client)
        destinations = [await world.destination() for _ in range(3)]
        await client.__aenter__()
        assert faults.calls["open"] == 0

        gathered = Gathered(10)
        run = asyncio.create_task(client.subscriber(destinations[0], group=world.group).run(gathered))
        await asyncio.gather(
            *(client.publish(destinations[0], number) for number in range(10)),
            *(client.publish(destination, "beside") for destination in destinations[1:]),
            remaining(client, destinations[1], group=world.group),
        )
        await gathered.enough()
        await client.aclose()
        await run

        assert faults.calls["open"] == 1

    # ------------------------------------------------------------ what exists

    async def test_nothing_is_provisioned_uninvited(self, world: World) -> None:
        """A: looking, publishing and subscribing to what is not there makes nothing; principle 6."""
        client = await _strict(world)
        if not isinstance(client.backend, Provisions):
            with pytest.raises(CapabilityError):
                await client.provision(Topology(destination=world.name()))
            return
        topology = Topology(destination=world.name("missing"), groups=[world.group] if world.group else [])

        async def states() -> set[str]:
            return {drift.state for drift in await client.provision(topology, mode="existing")}

        assert await states() == {"missing"}
        with pytest.raises(NotFoundError):
            await client.publish(topology.destination, "nowhere")
        with pytest.raises(NotFoundError):
            await client.subscriber(topology.destination, group=world.group).run(Gathered(1))
        assert await states() == {"missing"}

    async def test_provisioning_twice_changes_nothing(self, world: World) -> None:
        """A: it makes what is missing, finds it the next time, and touches no message."""
        client = await _strict(world)
        if not isinstance(client.backend, Provisions):
            world.cannot("there is nothing to provision on this backend")
        topology = Topology(
            destination=world.name(),
            groups=[world.group] if world.group else [],
            dead_letter=world.name("dead"),
        )

        first = await client.provision(topology)
        await client.publish(topology.destination, "kept")
        second = await client.provision(topology)

        assert {drift.state for drift in first} == {"created"}
        assert [(drift.what, drift.state) for drift in second] == [(drift.what, "present") for drift in first]
        assert (await gather(client, topology.destination, 1, group=world.group)).bodies == ["kept"]


async def _strict(world: World) -> unimsg.Client:
    """A client that makes nothing by itself, of a broker that is there."""
    await world.destination()
    return await world.client(create=False)


def _resources() -> tuple[int, int, int]:
    """Tasks, threads and open files of this process; threads of the loop's own pool are nobody's, and come and go."""
    threads = sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
    return len(asyncio.all_tasks()), threads, len(os.listdir("/dev/fd"))  # noqa: PTH208 - links that end while one looks


async def _drain(world: World, client: unimsg.Client) -> float:
    """The shortest drain budget that is accepted: where a poll cannot be cancelled it must outlast one."""
    receiver = await client.backend.open_receiver(
        await world.destination(), world.group, "oldest", _Deaf(), 1
    )
    limits = receiver.limits
    await receiver.aclose()
    return 2 * world.tick if limits.cancel_safe else limits.wait + supervisor.SPARE


class _Deaf:
    """Events that nobody listens to."""

    def assigned(self, _assignments: object, /) -> None: ...
    async def revoked(self, _assignments: object, _deadline: float, /) -> None: ...
    def lost(self, _assignments: object, /) -> None: ...
    def wake(self) -> None: ...


@contextmanager
def _hurried() -> Iterator[None]:
    """Let the core give up soon on what does not answer: its own bounds are right for people, not for tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "UNWIND", 0.2)
        patch.setattr(link, "CLOSE_TIMEOUT", 0.2)
        yield
