"""Endings: complete, release, the end of a row; and what a stale worker can no longer do.

Law: the contract of a store, call by call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from unimsg.idempotency.store import Ask, End, Grip, Store
from unimsg.testing.conformance.stores.begin import OnStore, Time


class Endings(OnStore):
    """Only the current token ends a claim, and it ends it once."""

    async def test_a_stale_worker_cannot_renew(self, store: Store, clock: Time) -> None:
        """Case 7; promise 23."""
        stale, current = await self._taken_over(store, clock)
        assert not await self.renew(store, stale)
        assert await self.renew(store, current)

    async def test_a_stale_failure_does_not_free_the_new_claim(self, store: Store, clock: Time) -> None:
        """Case 8; promise 23."""
        stale, current = await self._taken_over(store, clock)
        for end in ("failed", "dead", "returned"):
            assert not await self.release(store, stale, end)
        assert (await self.ask(store, "k")).state == "in_progress"
        assert await self.complete(store, current)

    async def test_a_stale_success_changes_nothing(self, store: Store, clock: Time) -> None:
        """Case 9; promise 23: neither while the new one runs nor afterwards."""
        stale, current = await self._taken_over(store, clock)
        assert not await self.complete(store, stale, b"stale")
        assert (await self.ask(store, "k")).state == "in_progress"
        assert await self.complete(store, current, b"current")
        assert not await self.complete(store, stale, b"stale")
        assert (await self.ask(store, "k")).outcome == b"current"

    async def _taken_over(self, store: Store, clock: Time) -> tuple[Grip, Grip]:
        stale = await self.take(store, "k")
        await clock.advance(self.lock * 1.1)
        return stale, await self.take(store, "k")

    async def test_a_failure_frees_the_key_at_once_and_counts(self, store: Store) -> None:
        """Cases 10 and 45; promises 10 and 28: whatever the failures were."""
        tokens = []
        for attempts in range(3):
            answer = await self.ask(store, "k")
            assert (answer.state, answer.attempts) == ("acquired", attempts)
            tokens.append(answer.token)
            assert await self.release(store, Grip("scope", "k", answer.token), "failed")
        assert tokens == sorted(set(tokens))

    async def test_what_was_returned_does_not_count(self, store: Store) -> None:
        """Promise 9: a deferral, a stop."""
        assert await self.release(store, await self.take(store, "k"), "returned")
        answer = await self.ask(store, "k")
        assert (answer.state, answer.attempts) == ("acquired", 0)

    async def test_attempts_survive_those_who_counted(self, stores: Callable[[], Store]) -> None:
        """Case 46; promise 28: another store on the same rows goes on counting."""
        async with stores() as before:
            await self.release(before, await self.take(before, "k"), "failed")
        async with stores() as after:
            assert (await self.ask(after, "k")).attempts == 1

    async def test_completed_rows_survive_those_who_wrote_them(self, stores: Callable[[], Store]) -> None:
        """Case 5: died between completion and ack."""
        async with stores() as before:
            await self.complete(before, await self.take(before, "k"), b"outcome")
        async with stores() as after:
            answer = await self.ask(after, "k")
            assert (answer.state, answer.outcome) == ("completed", b"outcome")

    async def test_what_failed_for_good_stays_failed(self, store: Store) -> None:
        """Case 11."""
        assert await self.release(store, await self.take(store, "k"), "dead")
        assert (await self.ask(store, "k")).state == "failed"

    async def test_a_redrive_opens_a_failed_key_once(self, store: Store) -> None:
        """Case 42; promise 25: with a higher number, its attempts at 0."""
        await self.release(store, await self.take(store, "k"), "failed")
        await self.release(store, await self.take(store, "k"), "dead")
        assert (await self.ask(store, "k", redrive=0)).state == "failed"
        again = await self.ask(store, "k", redrive=1)
        assert (again.state, again.attempts) == ("acquired", 0)
        await self.release(store, Grip("scope", "k", again.token), "failed")
        retried = await self.ask(store, "k", redrive=1)
        assert (retried.state, retried.attempts) == ("acquired", 1)
        await self.release(store, Grip("scope", "k", retried.token), "dead")
        assert (await self.ask(store, "k", redrive=1)).state == "failed"
        assert (await self.ask(store, "k", redrive=2)).state == "acquired"

    async def test_a_redrive_does_not_open_a_completed_key(self, store: Store) -> None:
        """Case 41; promise 25."""
        await self.complete(store, await self.take(store, "k"))
        assert (await self.ask(store, "k", redrive=5)).state == "completed"

    async def test_a_redrive_does_not_take_a_running_key(self, store: Store) -> None:
        """Promise 23: it waits as any other duplicate."""
        await self.take(store, "k")
        assert (await self.ask(store, "k", redrive=1)).state == "in_progress"

    async def test_the_end_of_a_row(self, store: Store, clock: Time) -> None:
        """Case 15; promise 23: treated as new, with a token above all before."""
        grip = await self.take(store, "k")
        await self.release(store, grip, "failed")
        latest = await self.take(store, "k")
        await self.complete(store, latest, b"outcome")
        await clock.advance(self.ttl * 1.1)
        answer = await self.ask(store, "k", fingerprint=b"new")
        assert (answer.state, answer.attempts) == ("acquired", 0)
        assert answer.token > latest.token
        assert (await self.ask(store, "k", fingerprint=b"other")).state == "reused"

    async def test_tokens_rise_after_the_row_is_gone(self, store: Store, clock: Time) -> None:
        """Case 15; promise 23: also when it was removed."""
        tokens = list[int]()
        for _ in range(3):
            grip = await self.take(store, "k")
            await self.complete(store, grip)
            tokens.append(grip.token)
            await clock.advance(self.ttl * 1.1)
            await store.purge()
        assert tokens == sorted(set(tokens))

    async def test_purging_removes_what_has_ended_only(self, store: Store, clock: Time) -> None:
        """Promise 28: what counts stays."""
        await self.complete(store, await self.take(store, "old"))
        await clock.advance(self.ttl * 0.7)
        await self.complete(store, await self.take(store, "young"))
        await clock.advance(self.ttl * 0.7)
        await store.purge()
        assert (await self.ask(store, "young")).state == "completed"
        assert (await self.ask(store, "old")).state == "acquired"

    async def test_a_lost_answer_can_be_asked_for_again(self, store: Store) -> None:
        """Case 19: the same again is True and changes nothing."""
        done = await self.take(store, "done")
        assert await self.complete(store, done, b"first")
        assert await self.complete(store, done, b"second")
        assert (await self.ask(store, "done")).outcome == b"first"
        failed = await self.take(store, "failed")
        assert await self.release(store, failed)
        assert await self.release(store, failed)
        assert (await self.ask(store, "failed")).attempts == 1

    @pytest.mark.parametrize("end", ["failed", "dead", "returned"])
    async def test_an_ended_claim_is_over(self, store: Store, end: End) -> None:
        """Promise 23: given back, it can be neither renewed nor completed; completed, not given back."""
        given_back = await self.take(store, "given back")
        await self.release(store, given_back, end)
        assert not await self.renew(store, given_back)
        assert not await self.complete(store, given_back)
        completed = await self.take(store, "completed")
        await self.complete(store, completed)
        assert not await self.renew(store, completed)
        assert not await self.release(store, completed, end)
        assert (await self.ask(store, "completed")).state == "completed"

    async def test_what_was_never_claimed(self, store: Store) -> None:
        """Promise 23."""
        grip = Grip("scope", "never", 1)
        assert not await self.renew(store, grip)
        assert not await self.complete(store, grip)
        assert not await self.release(store, grip)
        assert (await self.ask(store, "never")).attempts == 0

    async def test_a_claim_that_ran_out_is_still_its_holders_while_nobody_wants_it(
        self, store: Store, clock: Time
    ) -> None:
        """Cases 20 and 22: late, and nobody was harmed."""
        grip = await self.take(store, "k")
        await clock.advance(self.lock * 2)
        assert await self.renew(store, grip)
        await clock.advance(self.lock * 2)
        assert await self.complete(store, grip)
        assert (await self.ask(store, "k")).state == "completed"

    async def test_outcomes_come_back_byte_for_byte(self, store: Store) -> None:
        """With their NULs, and the empty one told from none."""
        for key, outcome in (("none", None), ("empty", b""), ("all", bytes(range(256)) * 16)):
            await self.complete(store, await self.take(store, key), outcome)
            assert (await self.ask(store, key)).outcome == outcome

    async def test_a_cancelled_claim_holds_nothing(self, store: Store) -> None:
        """Case 31: whether it reached the store or not, the key is free afterwards and nothing was counted."""
        for turns in range(6):
            asking = asyncio.create_task(
                store.claim([Ask("scope", f"k{turns}")], lock=self.lock, ttl=self.ttl)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            if not asking.cancel():
                continue
            await asyncio.wait([asking])
            if asking.cancelled():
                answer = await self.ask(store, f"k{turns}")
                while answer.state == "in_progress":  # it is on its way back
                    await asyncio.sleep(0)
                    answer = await self.ask(store, f"k{turns}")
                assert (answer.state, answer.attempts) == ("acquired", 0)
