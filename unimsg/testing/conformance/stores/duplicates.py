"""Duplicates: messages of one key, and workers that died with it.

Law: a worker that died is a claim that nobody ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.idempotency.decorator import idempotent
from unimsg.idempotency.store import Ask, Grip, Store
from unimsg.policies.retry import RetryPolicy
from unimsg.testing.conformance.stores.consuming import ALL, SCOPE, Consuming, key_of, scope_of


class Duplicates(Consuming):
    """One effect, whoever comes again."""

    @pytest.mark.parametrize("client", ALL, indirect=True)
    async def test_many_messages_of_one_key_are_one_effect(self, client: Client, store: Store) -> None:
        """Cases 1 and 38; promise 25: every duplicate is acked, whoever comes first."""
        effects: Counter[str] = Counter()

        @idempotent(store, key=key_of)
        async def handle(delivery: Delivery[Any]) -> None:
            await asyncio.sleep(0)
            effects[delivery.body["k"]] += 1

        for number in range(60):
            await client.publish("orders", {"k": f"{number % 6}", "n": number}, key=f"lane-{number % 7}")
        counters = await self.consume(client, handle, concurrency=8)
        assert effects == {f"{number}": 1 for number in range(6)}
        assert counters["acked"] == 60
        assert counters["duplicates"] == 54
        assert counters["failed"] == counters["dead_lettered"] == 0

    async def test_the_same_id_published_twice(self, client: Client, store: Store) -> None:
        """Case 48: a relay that died between publishing and noting it publishes again with the same id."""
        ids: list[str | None] = []

        @idempotent(store)
        async def handle(delivery: Delivery[Any]) -> None:
            ids.append(delivery.id)

        for _ in range(2):
            await client.publish("orders", {}, id="order-1")
        counters = await self.consume(client, handle)
        assert ids == ["order-1"]
        assert counters["duplicates"] == 1

    async def test_died_between_completion_and_ack(self, client: Client, store: Store) -> None:
        """Case 5; promise 5: the redelivery is acked without running."""
        await self.complete(store, await self.take(store, "1", scope=SCOPE))

        @idempotent(store, key=key_of, scope="job")
        async def handle(_delivery: Delivery[Any]) -> None:
            pytest.fail("it ran again")

        await client.publish("orders", {"k": "1"})
        counters = await self.consume(client, handle)
        assert (counters["acked"], counters["duplicates"]) == (1, 1)

    async def test_two_handlers_and_two_groups_in_one_store(self, client: Client, store: Store) -> None:
        """Cases 36 and 37; promise 22: each has its own effect, with the same function and a scope given, too."""
        ran: list[tuple[str | None, str]] = []

        @idempotent(store, key=key_of, scope="job")
        async def one(delivery: Delivery[Any]) -> None:
            ran.append((delivery.group, "one"))

        @idempotent(store, key=key_of)
        async def other(delivery: Delivery[Any]) -> None:
            ran.append((delivery.group, "other"))

        await client.publish("orders", {"k": "1"})
        for group, handler in (("a", one), ("b", one), ("c", other), ("d", other)):
            await self.consume(client, handler, group=group)
        assert sorted(ran, key=str) == [("a", "one"), ("b", "one"), ("c", "other"), ("d", "other")]

    # ------------------------------------------------------------ workers that died

    @pytest.mark.parametrize("client", ALL, indirect=True)
    async def test_a_worker_that_died_delays_its_key_and_nothing_else(
        self, client: Client, store: Store
    ) -> None:
        """Cases 3, 4 and 23 to 28: waiting counts no failure, other keys go on, and then it runs as attempt 2."""
        (dead,) = await store.claim([Ask(scope_of(client), "held")], lock=0.3, ttl=60.0)
        assert not isinstance(dead, Exception)
        ran: list[tuple[str, int, bool]] = []

        @idempotent(store, key=key_of, scope="job")
        async def handle(delivery: Delivery[Any]) -> None:
            ran.append((delivery.body["k"], delivery.attempt, delivery.fencing_token > dead.token))

        for key in ("held", "a", "b"):
            await client.publish("orders", {"k": key}, key=key)
        counters = await self.consume(client, handle, order="key")
        assert sorted(ran[:2]) == [("a", 1, True), ("b", 1, True)]
        assert ran[2:] == [("held", 2, True)]
        assert counters["failed"] == counters["dead_lettered"] == 0
        assert 1 <= counters["deferred"] <= 5, "it waits, it does not look all the time"

    @pytest.mark.parametrize("client", ALL, indirect=True)
    async def test_a_worker_that_ends_meanwhile_spares_the_second_run(
        self, client: Client, store: Store
    ) -> None:
        """Cases 23 to 28; promise 25: deferred while in progress elsewhere, then acked as a duplicate."""
        (held,) = await store.claim([Ask(scope_of(client), "held")], lock=0.3, ttl=60.0)
        assert not isinstance(held, Exception)

        @idempotent(store, key=key_of, scope="job")
        async def handle(delivery: Delivery[Any]) -> None:
            assert delivery.body["k"] == "free"
            assert await self.complete(store, Grip(scope_of(client), "held", held.token))

        for key in ("held", "free"):
            await client.publish("orders", {"k": key}, key=key)
        counters = await self.consume(client, handle)
        assert (counters["acked"], counters["duplicates"], counters["failed"]) == (2, 1, 0)

    async def test_a_worker_count_in_the_row_is_believed(self, client: Client, store: Store) -> None:
        """Cases 44 and 46; promise 10: the highest of what is known."""
        for _ in range(2):
            await self.release(store, await self.take(store, "1", scope=SCOPE), "failed")
        attempts: list[int] = []

        @idempotent(store, key=key_of, scope="job")
        async def handle(delivery: Delivery[Any]) -> None:
            attempts.append(delivery.attempt)
            raise ValueError

        await client.publish("orders", {"k": "1"})
        counters = await self.consume(client, handle)
        assert attempts == [3]
        assert counters["dead_lettered"] == 1

    @pytest.mark.parametrize("client", ["loglike", "memory", "sqlite"], indirect=True)
    async def test_attempts_survive_a_restart(self, client: Client, store: Store) -> None:
        """Case 46; promise 28: where nobody but the row remembers them, too."""
        attempts: list[int] = []
        stopping = asyncio.Event()

        @idempotent(store, key=key_of, scope="job")
        async def handle(delivery: Delivery[Any]) -> None:
            attempts.append(delivery.attempt)
            if len(attempts) == 1:
                stopping.set()
                raise ValueError

        await client.publish("orders", {"k": "1"}, key="k")
        slow = RetryPolicy(max_attempts=3, initial=60.0, max=60.0)
        subscriber = client.subscriber("orders", group="billing", retry=slow, drain=2.5)
        running = asyncio.create_task(subscriber.run(handle))
        await stopping.wait()
        while (await self.peek(store, "1")) != 1:  # noqa: ASYNC110 - the release is on its way
            await asyncio.sleep(0.001)
        await subscriber.aclose()
        await running
        await client.subscriber("orders", group="billing").seek("oldest")
        await self.consume(client, handle)
        assert attempts == [1, 2]
