"""Failures: what is run again, what is not, what a stop leaves; and what is told at the start.

Law: the public API, with the store's rows looked at through the contract.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import pytest

from unimsg.client import Client, connect
from unimsg.codecs import BYTES
from unimsg.consuming.delivery import Delivery
from unimsg.errors import DeadLetter, RejectedError
from unimsg.idempotency.decorator import idempotent
from unimsg.idempotency.store import Ask, End, Grip, Store
from unimsg.testing.conformance.stores.begin import until
from unimsg.testing.conformance.stores.consuming import ALL, BOTH, SCOPE, Consuming, key_of
from unimsg.testing.conformance.stores.trouble import Between
from unimsg.testing.faults import Fail, inject


class Failures(Consuming):
    """Every way out of a handler but success."""

    @pytest.mark.parametrize("client", ALL, indirect=True)
    async def test_a_failure_runs_again_with_a_higher_token(self, client: Client, store: Store) -> None:
        """Cases 10, 30 and 45; promise 28: attempts rise, whatever was raised, on the same consumer."""
        seen: list[tuple[int, int]] = []

        @idempotent(store, key=key_of)
        async def handle(delivery: Delivery[Any]) -> None:
            seen.append((delivery.attempt, delivery.fencing_token))
            raise ValueError if delivery.attempt % 2 else KeyError

        await client.publish("orders", {"k": "1"}, key="k")
        counters = await self.consume(client, handle)
        assert [attempt for attempt, _ in seen] == [1, 2, 3]
        assert sorted({token for _, token in seen}) == [token for _, token in seen]
        assert counters["dead_lettered"] == 1

    async def test_what_failed_for_good_is_not_run_again(self, client: Client, store: Store) -> None:
        """Case 11; promise 5: dead letter, then the row, then the ack; a duplicate is acked."""
        runs: list[int] = []

        @idempotent(store, key=key_of, scope="job")
        async def handle(delivery: Delivery[Any]) -> None:
            runs.append(delivery.body["n"])
            raise DeadLetter("poison")

        for number in (1, 2):
            await client.publish("orders", {"k": "1", "n": number})
        counters = await self.consume(client, handle, concurrency=1)
        assert runs == [1]
        assert (counters["dead_lettered"], counters["duplicates"]) == (1, 1)
        assert (await self.ask(store, "1", scope=SCOPE)).state == "failed"

    async def test_a_dead_letter_that_cannot_be_written(self, store: Store) -> None:
        """Case 40; promise 15: the original stays, and its key is not marked as failed."""
        client = connect("memory://")
        faults = inject(client)
        async with client:

            @idempotent(store, key=key_of, scope="job")
            async def handle(_delivery: Delivery[Any]) -> None:
                faults.always("send", Fail(RejectedError("no")))
                raise DeadLetter("poison")

            await client.publish("orders", {"k": "1"})
            subscriber = client.subscriber("orders", group="billing", dead_letter="dead", drain=0.1)
            running = asyncio.create_task(subscriber.run(handle))
            await until(lambda: "dead letter" in subscriber.health().reasons)
            assert subscriber.health().counters["dead_lettered"] == 0
            await subscriber.aclose()
            await running
        assert (await self.ask(store, "1", scope=SCOPE)).state == "acquired"

    async def test_a_body_that_cannot_be_read(self, client: Client, store: Store) -> None:
        """Case 39; promise 13: raw bytes to the dead letters, no row, and the others run."""
        ran: list[str] = []

        @idempotent(store, key=key_of)
        async def handle(delivery: Delivery[Any]) -> None:
            ran.append(delivery.body["k"])

        raw = client.publisher("orders", codec=BYTES)
        for body in (b'{"k": "1"}', b"\xff{", b'{"k": "2"}'):
            await raw.publish(body, headers={"h": "1"})
        counters = await self.consume(client, handle)
        assert sorted(ran) == ["1", "2"]
        assert counters["dead_lettered"] == 1
        letters = []
        async for delivery in client.subscriber("dead", group="reader", codec=BYTES).until_idle():
            async with delivery:
                letters.append((delivery.body, delivery.headers["h"]))
        assert letters == [(b"\xff{", "1")]

    async def test_another_payload_for_a_key_that_is_done(self, client: Client, store: Store) -> None:
        """Cases 12 and 14; promise 26: dead-lettered, while an identical one is a duplicate."""
        ran: list[int] = []

        @idempotent(store, key=key_of, fingerprint=lambda delivery: str(delivery.body["n"]))
        async def handle(delivery: Delivery[Any]) -> None:
            ran.append(delivery.body["n"])

        for number in (1, 2, 1):
            await client.publish("orders", {"k": "1", "n": number})
        counters = await self.consume(client, handle, concurrency=1)
        assert ran == [1]
        assert (counters["dead_lettered"], counters["duplicates"]) == (1, 1)

    async def test_another_payload_while_the_first_runs(self, client: Client, store: Store) -> None:
        """Case 13; promise 26: refused at once; it does not wait for the first."""
        refused = asyncio.Event()
        ran: list[int] = []

        @idempotent(store, key=key_of, fingerprint=lambda delivery: str(delivery.body["n"]))
        async def handle(delivery: Delivery[Any]) -> None:
            ran.append(delivery.body["n"])
            await refused.wait()

        for number in (1, 2):
            await client.publish("orders", {"k": "1", "n": number})
        consuming = asyncio.create_task(self.consume(client, handle, concurrency=2))
        async with (
            aclosing(aiter(client.subscriber("dead", group="reader"))) as letters,
            await anext(letters) as delivery,
        ):
            assert "KeyReuseError" in delivery.headers["unimsg-dead-letter"]
        refused.set()
        counters = await consuming
        assert (ran, counters["acked"], counters["dead_lettered"]) == ([1], 1, 1)

    @pytest.mark.parametrize("client", ["memory", "sqlite", "fifolike", "loglike"], indirect=True)
    async def test_a_failed_head_holds_its_key_only(self, client: Client, store: Store) -> None:
        """Cases 29 and 30; promise 6: later ones of the key wait for the retry, other keys go on."""
        ran: list[str] = []

        @idempotent(store, key=key_of)
        async def handle(delivery: Delivery[Any]) -> None:
            if delivery.body["k"] == "g2" and delivery.attempt == 1:
                raise ValueError
            ran.append(delivery.body["k"])

        for key in ("g1", "g2", "g3"):
            await client.publish("orders", {"k": key}, key="g")
        for key in ("h1", "h2"):
            await client.publish("orders", {"k": key}, key="h")
        await self.consume(client, handle, order="key")
        assert [key for key in ran if key.startswith("g")] == ["g1", "g2", "g3"]
        assert [key for key in ran if key.startswith("h")] == ["h1", "h2"]

    async def test_what_a_handler_published_before_it_failed(self, client: Client, store: Store) -> None:
        """Case 49: a direct publish is no part of the effect; it happens with every attempt, as documented."""

        @idempotent(store, key=key_of)
        async def handle(delivery: Delivery[Any]) -> None:
            await delivery.publish("receipts", {"attempt": delivery.attempt})
            if delivery.attempt == 1:
                raise ValueError

        await client.publish("orders", {"k": "1"})
        await self.consume(client, handle)
        seen = []
        async for delivery in client.subscriber("receipts", group="reader").until_idle():
            async with delivery:
                seen.append(delivery.body["attempt"])
        assert sorted(seen) == [1, 2]

    # ------------------------------------------------------------ redrive

    @pytest.mark.parametrize("client", [*BOTH, "fifolike"], indirect=True)
    async def test_a_redriven_message_runs_again_and_a_completed_one_does_not(
        self, client: Client, store: Store
    ) -> None:
        """Cases 41, 42 and 43; promise 25: attempts from 1, within a dedup window, the same id and key."""
        broken, attempts = True, list[tuple[str, int]]()

        @idempotent(store, key=key_of)
        async def handle(delivery: Delivery[Any]) -> None:
            attempts.append((delivery.body["k"], delivery.attempt))
            if broken and delivery.body["k"] == "1":
                raise ValueError

        for key in ("1", "2"):
            await client.publish("orders", {"k": key}, id=f"id-{key}", key=key)
        await self.consume(client, handle)
        assert [attempt for key, attempt in attempts if key == "1"] == [1, 2, 3]
        broken, attempts = False, []
        moved = await client.redrive("dead", group="billing" if client.capabilities.groups else None)
        assert moved.redriven == 1
        await self.consume(client, handle)
        assert attempts == [("1", 1)]

    # ------------------------------------------------------------ stop, and what is told

    async def test_stop_gives_the_claim_back_when_the_handler_has_unwound(
        self, client: Client, store: Store
    ) -> None:
        """Cases 31 and 32; promise 17: not before, uncounted, and never left to run out."""
        begun, unwinding, let = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @idempotent(store, key=key_of, scope="job")
        async def handle(_delivery: Delivery[Any]) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                unwinding.set()
                await let.wait()

        await client.publish("orders", {"k": "1"})
        subscriber = client.subscriber("orders", group="billing", drain=0.01)
        running = asyncio.create_task(subscriber.run(handle))
        await begun.wait()
        closing = asyncio.create_task(subscriber.aclose())
        await unwinding.wait()
        assert (await self.ask(store, "1", scope=SCOPE)).state == "in_progress"
        let.set()
        await closing
        await running
        assert await self.peek(store, "1") == 0

    async def test_claims_are_made_for_what_is_about_to_run(self, client: Client, store: Store) -> None:
        """Case 47; promise 29: not for the buffer, where they would run out."""
        begun, let = asyncio.Event(), asyncio.Event()

        @idempotent(store, key=key_of, scope="job")
        async def handle(_delivery: Delivery[Any]) -> None:
            begun.set()
            await let.wait()

        for number in range(50):
            await client.publish("orders", {"k": f"{number}"})
        consuming = asyncio.create_task(self.consume(client, handle, concurrency=1))
        await begun.wait()
        asks = [Ask(SCOPE, f"{number}") for number in range(50)]
        answers = await self.ask_all(store, asks)
        held = [answer for answer in answers if answer.state == "in_progress"]
        assert 1 <= len(held) <= 2, "what runs, and what runs next"
        mine = [
            Grip(a.scope, a.key, got.token) for a, got in zip(asks, answers, strict=True) if got not in held
        ]
        ends: list[End] = ["returned"] * len(mine)
        await store.release(mine, ends, ttl=self.ttl)
        let.set()
        assert (await consuming)["acked"] == 50

    async def test_a_batch_is_claimed_and_completed_in_one_call(self, client: Client, store: Store) -> None:
        """Promise 29: what is about to run together is asked for together, and marked as done together."""
        between, begun, let = Between(store), list[str](), asyncio.Event()

        @idempotent(between, key=key_of, scope="job")
        async def handle(delivery: Delivery[Any]) -> None:
            begun.append(key_of(delivery))
            if len(begun) == 20:
                let.set()
            await let.wait()

        for number in range(20):
            await client.publish("orders", {"k": f"{number}"})
        assert (await self.consume(client, handle, concurrency=20))["acked"] == 20
        assert between.calls.count("claim") <= 3
        assert between.calls.count("complete") <= 2

    async def test_a_ttl_shorter_than_the_retention_is_told(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Case 16: at start-up, with both numbers."""

        @idempotent(store, ttl=3600)
        async def handle(_delivery: Delivery[Any]) -> None:
            pass

        async with connect("memory://?retention=2d") as client:
            with caplog.at_level(logging.WARNING, "unimsg.idempotency"):
                await self.consume(client, handle)
        (record,) = [r for r in caplog.records if r.name == "unimsg.idempotency"]
        assert "remembers keys for 1h" in record.getMessage()
        assert "keeps messages for 2d" in record.getMessage()
