"""Trouble: the store is down, slow, or its answers are lost, while messages are consumed or a function is called.

Law: what breaks stands between the store and its user; the rows are the store's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest

from unimsg.client import connect
from unimsg.consuming.delivery import Delivery
from unimsg.errors import ConfigError, LeaseLostError, StoreUnavailableError
from unimsg.idempotency.decorator import idempotent
from unimsg.idempotency.store import Answer, Ask, End, Grip, Store
from unimsg.testing import delivery as by_hand
from unimsg.testing.conformance.stores.begin import OnStore, Time, until
from unimsg.testing.faults import inject

R = TypeVar("R")


class Between(Store):
    """A store that can be down, lose answers, and take its time."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.down = False
        self.lose = 0
        """How many answers are lost; the calls are carried out."""
        self.calls: list[str] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        """Awaited when a claim has been made, before its answer is told."""

    @property
    def shared(self) -> bool:  # type: ignore[override]  # as the inner one is
        """Whether the inner one is."""
        return self.inner.shared

    async def open(self) -> None:
        """Open the inner one."""
        await self.inner.__aenter__()

    async def close(self) -> None:
        """Close the inner one."""
        await self.inner.__aexit__(None, None, None)

    async def _call(self, name: str, call: Callable[[], Awaitable[R]]) -> R:
        self.calls.append(name)
        if self.down:
            raise StoreUnavailableError("it is down")
        answer = await call()
        if self.lose:
            self.lose -= 1
            raise StoreUnavailableError("the answer was lost")
        return answer

    async def claim(
        self, asks: Sequence[Ask], /, *, lock: float, ttl: float
    ) -> Sequence[Answer | StoreUnavailableError]:
        """Claim, and perhaps be late."""
        answers = await self._call("claim", lambda: self.inner.claim(asks, lock=lock, ttl=ttl))
        if self.before is not None:
            await self.before()
        return answers

    async def renew(self, grips: Sequence[Grip], /, *, lock: float) -> Sequence[bool]:
        """Renew."""
        return await self._call("renew", lambda: self.inner.renew(grips, lock=lock))

    async def complete(
        self, grips: Sequence[Grip], outcomes: Sequence[bytes | None], /, *, ttl: float
    ) -> Sequence[bool]:
        """Complete."""
        return await self._call("complete", lambda: self.inner.complete(grips, outcomes, ttl=ttl))

    async def release(self, grips: Sequence[Grip], ends: Sequence[End], /, *, ttl: float) -> Sequence[bool]:
        """Release."""
        return await self._call("release", lambda: self.inner.release(grips, ends, ttl=ttl))


class Trouble(OnStore):
    """The store and the way to it."""

    # ------------------------------------------------------------ a loop

    async def test_down_before_the_handler(self, store: Store) -> None:
        """Case 17; promise 27: intake pauses, one probe at a time looks again, nothing is counted."""
        between = Between(store)
        between.down = True
        attempts: list[int] = []

        @idempotent(between)
        async def handle(delivery: Delivery[Any]) -> None:
            attempts.append(delivery.attempt)

        async with connect("memory://") as client:
            for _ in range(20):
                await client.publish("orders", {})
            subscriber = client.subscriber("orders", group="billing")
            running = asyncio.create_task(subscriber.run(handle))
            await until(lambda: len(between.calls) >= 3)
            assert "store" in subscriber.health().reasons
            assert not attempts
            between.down = False
            await until(lambda: subscriber.health().counters["acked"] == 20)
            counters = subscriber.health().counters
            assert "store" not in subscriber.health().reasons
            await subscriber.aclose()
            await running
        assert attempts == [1] * 20
        assert counters["failed"] == counters["deferred"] == counters["dead_lettered"] == 0

    async def test_down_after_the_handler(self, store: Store) -> None:
        """Case 18; promise 27: tried again within the lock, then acked and counted; the effect is not repeated."""
        between = Between(store)
        effects: list[str | None] = []

        @idempotent(between, lock=0.4)
        async def handle(delivery: Delivery[Any]) -> None:
            effects.append(delivery.id)
            between.down = True

        async with connect("memory://") as client:
            await client.publish("orders", {}, id="order-1")
            health = await client.subscriber("orders", group="billing").run_until_idle(handle)
        assert effects == ["order-1"]
        assert (health.counters["acked"], health.counters["completion_failed"]) == (1, 1)
        assert between.calls.count("complete") >= 2

    async def test_the_answer_to_a_completion_is_lost(self, store: Store) -> None:
        """Case 19: it was carried out; the same again is a success, not a lost claim."""
        between = Between(store)
        effects: list[str | None] = []

        @idempotent(between)
        async def handle(delivery: Delivery[Any]) -> None:
            effects.append(delivery.id)
            between.lose = 1

        async with connect("memory://?dedup=0s") as client:
            await client.publish("orders", {}, id="order-1")
            await client.subscriber("orders", group="billing").run_until_idle(handle)
            await client.publish("orders", {}, id="order-1")
            health = await client.subscriber("orders", group="billing").run_until_idle(handle)
        assert effects == ["order-1"]
        assert health.counters["duplicates"] == 1
        assert health.counters["lost"] == health.counters["completion_failed"] == 0

    async def test_unclaimed_while_it_is_down(self, store: Store) -> None:
        """Promise 27, `on_store_error="run"`: everything runs, as often as it comes."""
        between = Between(store)
        between.down = True
        runs: list[str | None] = []

        @idempotent(between, on_store_error="run")
        async def handle(delivery: Delivery[Any]) -> None:
            runs.append(delivery.id)
            assert delivery.fencing_token == 0

        async with connect("memory://?dedup=0s") as client:
            for _ in range(2):
                await client.publish("orders", {}, id="order-1")
            health = await client.subscriber("orders", group="billing").run_until_idle(handle)
        assert runs == ["order-1"] * 2
        assert health.counters["acked"] == 2

    async def test_slower_than_a_claim_lasts(self, store: Store, clock: Time) -> None:
        """Case 20: what was granted may be another's by now: it is given back, and nothing runs."""
        between = Between(store)
        passed = 0

        async def late() -> None:
            nonlocal passed
            if not passed:
                passed += 1
                await clock.advance(self.lock * 1.1)

        between.before = late

        async def handle(delivery: Delivery[Any]) -> None:
            """It has one delivery."""

        decorated: Any = idempotent(between, scope="job")(handle)
        guard = await decorated.guard(
            destination="orders", group="billing", lease=self.lock / 0.9, retention=None
        )
        first: Any
        second: Any
        first, second = by_hand({}, id="1"), by_hand({}, id="1")
        assert [claim.action for claim in await guard.claim([first])] == ["wait"]
        assert [(claim.action, claim.attempts) for claim in await guard.claim([second])] == [("run", 0)]
        await guard.aclose()

    async def test_a_claim_is_shorter_than_the_lease(self, store: Store) -> None:
        """Promise 24: slightly, so that a redelivery after a crash finds the key free; a longer one is refused."""

        async def handle(_delivery: Delivery[Any]) -> None:
            """It is not run."""

        where: Any = {"destination": "orders", "group": "billing", "lease": 30.0, "retention": None}
        decorated: Any = idempotent(store)(handle)
        guard = await decorated.guard(**where)
        assert 24.0 <= guard.lock < 30.0
        await guard.aclose()
        longer: Any = idempotent(store, lock=30.0)(handle)
        with pytest.raises(ConfigError, match="not shorter than the broker's lease"):
            await longer.guard(**where)

    async def test_what_the_store_refuses_is_not_extended(self, store: Store) -> None:
        """Promise 24: the store is renewed first, so a lease is never kept for a claim that is another's."""
        lease, key = 0.6, "1"
        stolen = list[Grip]()

        @idempotent(store, key=lambda _: key, scope="job", lock=lease - 0.001)
        async def handle(delivery: Delivery[Any]) -> None:
            await self.release(store, Grip("billing/job", key, delivery.fencing_token))
            stolen.append(await self.take(store, key, scope="billing/job"))
            await asyncio.Event().wait()

        connected = connect(f"memory://?lease={lease * 1000:.0f}ms")
        faults = inject(connected)
        async with connected as client:
            await client.publish("orders", {})
            subscriber = client.subscriber("orders", group="billing")
            running = asyncio.create_task(subscriber.run(handle))
            await until(lambda: subscriber.health().counters.get("lost") == 1)
            extended = list(faults.extended)
            await subscriber.aclose()
            await running
        assert extended == []
        assert await self.complete(store, stolen[0]), "the claim of the other is not touched"

    # ------------------------------------------------------------ a call

    async def test_a_call_that_outlasts_its_lock(self, store: Store, clock: Time) -> None:
        """Case 6: the heartbeat of a plain call renews it, so nobody else gets the key."""
        let = asyncio.Event()

        @idempotent(store, key=str, scope="job", lock=self.lock)
        async def work(_key: str) -> int:
            await let.wait()
            return 7

        working = asyncio.create_task(work("1"))
        for _ in range(12):
            await clock.advance(self.lock / 4)
            assert (await self.ask(store, "1", scope="/job")).state == "in_progress"
        let.set()
        assert await working == 7
        assert (await self.ask(store, "1", scope="/job")).state == "completed"

    async def test_a_call_that_lost_its_claim(self, store: Store, clock: Time) -> None:
        """Cases 7 and 9; promise 23: it is cancelled where it stands, and says so; the new claim is not touched."""
        between = Between(store)
        begun, unwound = asyncio.Event(), list[bool]()

        @idempotent(between, key=str, scope="job", lock=self.lock)
        async def work(_key: str) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                unwound.append(True)

        working = asyncio.create_task(work("1"))
        await begun.wait()
        between.down = True  # no heartbeat reaches the store
        await clock.advance(self.lock * 1.2)
        taken = await self.ask(store, "1", scope="/job")
        assert (taken.state, taken.attempts) == ("acquired", 1)
        between.down = False
        await clock.advance(self.lock / 2)
        with pytest.raises(LeaseLostError, match="another worker took key '1'"):
            await working
        assert unwound == [True]
        assert working.cancelling() == 0
        assert await self.complete(store, Grip("/job", "1", taken.token))

    async def test_what_no_handler_should_raise(self, store: Store) -> None:
        """Case 33: the claim is given back, uncounted, and it goes on up."""

        class Exit(BaseException):
            pass

        @idempotent(store, key=str, scope="job")
        async def work(_key: str) -> None:
            raise Exit

        with pytest.raises(Exit):
            await work("1")
        answer = await self.ask(store, "1", scope="/job")
        assert (answer.state, answer.attempts) == ("acquired", 0)
