"""Claims: who gets a key, and what the others are told.

Law: the contract of a store, call by call.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

from unimsg.idempotency.store import Ask, Grip, Store
from unimsg.testing.conformance.stores.begin import OnStore, Time

ROUNDS = 50


class Claims(OnStore):
    """One live token for each key."""

    async def test_one_of_two_gets_it_and_the_other_is_told_for_how_long(
        self, stores: Callable[[], Store]
    ) -> None:
        """Case 1; promise 23."""
        async with stores() as one, stores() as other:
            first, second = await asyncio.gather(self.ask(one, "k"), self.ask(other, "k"))
            assert sorted((first.state, second.state)) == ["acquired", "in_progress"]
            winner, loser = (first, second) if first.state == "acquired" else (second, first)
            assert winner.attempts == 0
            assert loser.token == winner.token > 0
            assert self.lock * 0.8 < loser.remaining < self.lock * 1.1

    async def test_of_a_hundred_at_once_one_gets_it(self, stores: Callable[[], Store]) -> None:
        """Case 2; promise 23: in every round, through four stores on the same rows."""
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(stores()) for _ in range(4)]
            for number in range(ROUNDS):
                asking = [self.ask(opened[turn % 4], f"k{number}") for turn in range(100)]
                states = Counter(answer.state for answer in await asyncio.gather(*asking))
                assert states == {"acquired": 1, "in_progress": 99}

    async def test_a_claim_that_ran_out_is_taken_over_with_a_higher_token(
        self, store: Store, clock: Time
    ) -> None:
        """Case 3: the worker died; the execution that nobody heard of again counts. Promises 10 and 23."""
        first = await self.take(store, "k")
        await clock.advance(self.lock * 1.1)
        second = await self.ask(store, "k")
        assert (second.state, second.attempts) == ("acquired", 1)
        assert second.token > first.token

    async def test_a_renewed_claim_is_not_taken_over(self, store: Store, clock: Time) -> None:
        """Case 6: longer than the lock, with a healthy heartbeat."""
        grip = await self.take(store, "k")
        for _ in range(4):
            await clock.advance(self.lock / 2)
            assert await self.renew(store, grip)
            assert (await self.ask(store, "k")).state == "in_progress"
        assert await self.complete(store, grip)

    async def test_a_claim_renewed_beyond_its_ttl_is_still_one(self, store: Store, clock: Time) -> None:
        """Case 6: a handler that runs longer than keys are remembered."""
        (answer,) = await store.claim([Ask("scope", "k")], lock=self.lock, ttl=self.lock * 1.5)
        assert not isinstance(answer, Exception)
        grip = Grip("scope", "k", answer.token)
        for _ in range(4):
            await clock.advance(self.lock / 2)
            assert await self.renew(store, grip)
            assert (await self.ask(store, "k")).state == "in_progress"

    async def test_one_key_asked_for_twice_in_a_batch(self, store: Store) -> None:
        """Case 34; promise 29: new, duplicate, in progress, mismatch and two copies, answered each in its place."""
        await self.complete(store, await self.take(store, "done"), b"outcome")
        held = await self.take(store, "held")
        await self.ask(store, "other", fingerprint=b"1")
        asks = [
            Ask("scope", "new"),
            Ask("scope", "done"),
            Ask("scope", "held"),
            Ask("scope", "other", b"2"),
            Ask("scope", "new"),
            Ask("scope", "newer"),
        ]
        answers = await self.ask_all(store, asks)
        assert [answer.state for answer in answers] == [
            "acquired",
            "completed",
            "in_progress",
            "reused",
            "in_progress",
            "acquired",
        ]
        assert answers[1].outcome == b"outcome"
        assert answers[2].token == held.token
        assert answers[4].token == answers[0].token != answers[5].token

    async def test_a_large_batch(self, store: Store) -> None:
        """Case 35; promise 29: more than any store takes in one statement; each its own answer."""
        await self.complete(store, await self.take(store, "k7"))
        answers = await self.ask_all(store, [Ask("scope", f"k{number}") for number in range(250)])
        assert [n for n, answer in enumerate(answers) if answer.state != "acquired"] == [7]
        grips = [Grip("scope", f"k{n}", answer.token) for n, answer in enumerate(answers)]
        results = await store.complete(grips, [None] * 250, ttl=self.ttl)
        assert [n for n, current in enumerate(results) if not current] == [7]

    async def test_an_empty_batch(self, store: Store) -> None:
        """Nothing in, nothing out."""
        assert not await store.claim([], lock=self.lock, ttl=self.ttl)
        assert not await store.renew([], lock=self.lock)
        assert not await store.complete([], [], ttl=self.ttl)
        assert not await store.release([], [], ttl=self.ttl)

    async def test_scopes_do_not_meet(self, store: Store) -> None:
        """Cases 36 and 37; promise 22: two handlers, two groups, one table."""
        await self.complete(store, await self.take(store, "k", scope="a/b"))
        await self.take(store, "k", scope="a")
        await self.take(store, "b/k", scope="a")
        assert (await self.ask(store, "k", scope="a/b")).state == "completed"

    async def test_keys_are_told_apart_exactly(self, store: Store) -> None:
        """Promise 22: neither case nor form nor blanks are smoothed away."""
        keys = ["k", "K", " k", "k ", "é", "e\u0301", "ß", "ss", "k%", "k_", "'", '"', "\n", "🐘", "1", "01"]
        answers = await self.ask_all(store, [Ask("scope", key) for key in keys])
        assert {answer.state for answer in answers} == {"acquired"}
        answers = await self.ask_all(store, [Ask("scope", key) for key in keys])
        assert {answer.state for answer in answers} == {"in_progress"}

    async def test_another_payload(self, store: Store) -> None:
        """Cases 12 and 13; promise 26: refused whatever the state of the row, which is not touched."""
        first = await self.ask(store, "k", fingerprint=b"one")
        grip = Grip("scope", "k", first.token)
        assert (await self.ask(store, "k", fingerprint=b"two")).state == "reused"
        assert await self.complete(store, grip, b"outcome")
        assert (await self.ask(store, "k", fingerprint=b"two")).state == "reused"
        again = await self.ask(store, "k", fingerprint=b"one")
        assert (again.state, again.outcome) == ("completed", b"outcome")

    async def test_another_payload_after_a_failure(self, store: Store) -> None:
        """Case 12; promise 26: the key was used, though nothing came of it; also where it failed for good."""
        for end, then in (("failed", "acquired"), ("dead", "failed")):
            first = await self.ask(store, end, fingerprint=b"one")
            await store.release([Grip("scope", end, first.token)], [end], ttl=self.ttl)  # type: ignore[list-item]  # of a table
            assert (await self.ask(store, end, fingerprint=b"two")).state == "reused"
            assert (await self.ask(store, end, fingerprint=b"one")).state == then

    async def test_the_same_payload_again(self, store: Store) -> None:
        """Case 14: an identical duplicate is one after completion, too; without a fingerprint nothing is compared."""
        first = await self.ask(store, "k", fingerprint=b"one")
        await self.complete(store, Grip("scope", "k", first.token))
        assert (await self.ask(store, "k", fingerprint=b"one")).state == "completed"
        assert (await self.ask(store, "k")).state == "completed"
        plain = await self.take(store, "plain")
        await self.complete(store, plain)
        assert (await self.ask(store, "plain", fingerprint=b"one")).state == "completed"
