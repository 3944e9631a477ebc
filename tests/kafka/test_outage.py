"""A broker of its own that is frozen, killed and started again: what callers are told meanwhile, and that closing ends.

Law: one broker for the file; what it does is the fault, nothing here waits for a time to pass but for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import unimsg
from tools.brokers.kafka import Cluster
from unimsg.errors import BackendError, NotSentError, OutcomeUnknownError
from unimsg.spi import Topology
from unimsg.testing.conformance.world import consuming, eventually

pytestmark = [pytest.mark.xdist_group("frail-kafka"), pytest.mark.timeout(300)]


@pytest.fixture
def cluster(frail_kafka: Cluster) -> Cluster:
    """A broker that may be hurt."""
    return frail_kafka


@pytest.fixture
async def client(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[unimsg.Client]:
    """A client, and a topic that is called as the test is."""
    url = f"kafka://{cluster.bootstrap()}?session=6s&request_timeout=2s"
    async with unimsg.connect(url) as made:
        await made.provision(Topology(destination=request.node.name, settings={"partitions": "1"}))
        yield made


async def test_no_answer_is_unknown_and_the_same_id_comes_once_more(
    cluster: Cluster, client: unimsg.Client, request: pytest.FixtureRequest, group: str
) -> None:
    """Promise 2: handed over and unanswered is unknown; queued behind it is not sent; neither is waited for longer."""
    name, got = request.node.name, list[Any]()
    publisher = client.publisher(name)
    await publisher.publish("before", key="k")
    await asyncio.to_thread(cluster.freeze, 1)
    try:
        sent = asyncio.create_task(publisher.publish("sent", key="k", timeout=1.0))
        await asyncio.sleep(0.2)  # so that it is in flight, and the next one is not
        waiting = asyncio.create_task(publisher.publish("waiting", key="k", timeout=0.5))
        with pytest.raises(NotSentError):
            await waiting
        with pytest.raises(OutcomeUnknownError):
            await sent
    finally:
        await asyncio.to_thread(cluster.thaw, 1)
    await publisher.publish("after", key="k")

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        got.append(delivery.body)

    await client.subscriber(name, group=group).run_until_idle(note)
    assert [body for body in got if body != "sent"] == ["before", "after"]
    assert got.count("sent") <= 1


async def test_a_client_of_a_frozen_broker_can_be_closed(
    cluster: Cluster, client: unimsg.Client, request: pytest.FixtureRequest, group: str
) -> None:
    """A: closing is bounded, though the client library would wait for ever for what is in flight."""
    name = request.node.name

    async def never(_: object) -> None:
        """Nothing comes."""

    async with consuming(client, name, never, group=group):
        await client.publish(name, "x", key="k")
        await asyncio.to_thread(cluster.freeze, 1)
        try:
            hanging = asyncio.create_task(client.publish(name, "y", key="k", timeout=60))
            await asyncio.sleep(0.2)  # so that it is in flight
            async with asyncio.timeout(60):
                await client.aclose()
            with pytest.raises(OutcomeUnknownError):
                await hanging
        finally:
            await asyncio.to_thread(cluster.thaw, 1)


async def test_a_broker_that_dies_is_waited_for(
    cluster: Cluster, client: unimsg.Client, request: pytest.FixtureRequest, group: str
) -> None:
    """Rule 7: nothing is lost, nothing has to be done; a probe tells, and finds the way to the cluster anew."""
    name, got = request.node.name, set[Any]()

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        got.add(delivery.body)

    async with consuming(client, name, note, group=group):
        await client.publish(name, "before", key="k")
        await eventually(lambda: "before" in got, "the first is handled")
        await client.backend.probe()
        await asyncio.to_thread(cluster.kill, 1)
        with pytest.raises(BackendError):
            await client.backend.probe()
        during = asyncio.create_task(client.publish(name, "during", key="k", timeout=90))
        await asyncio.to_thread(cluster.restart, 1)
        await during
        await eventually(lambda: "during" in got, "the second is handled")
        await client.backend.probe()
