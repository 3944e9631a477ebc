"""Claims of an idempotent handler: in batches, for what is about to run, fenced (promises 5, 22 to 29)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.consuming.harness import FAST, LOG, World, balance, leased, until
from unimsg.capabilities import Capabilities
from unimsg.consuming.delivery import Delivery
from unimsg.consuming.guard import Claim
from unimsg.errors import KeyReuseError, StoreUnavailableError
from unimsg.spi import Assignment
from unimsg.testing.clock import ManualClock


class FakeGuard:
    """Remembers by message id; the store can be taken down."""

    lock = 10.0

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.tokens = 0
        self.calls: list[tuple[str, int]] = []
        self.down = False
        self.refuse: set[str] = set()
        self.closed = False
        self.begun = 0

    def _called(self, name: str, batch: Sequence[Any]) -> None:
        self.calls.append((name, len(batch)))
        if self.down:
            raise StoreUnavailableError("the store is down")

    async def claim(self, deliveries: Sequence[Delivery[Any]], /) -> Sequence[Claim]:
        await asyncio.sleep(0)
        self._called("claim", deliveries)
        return [self._claim(delivery.id or "") for delivery in deliveries]

    def _claim(self, key: str) -> Claim:
        state = self.rows.get(key)
        if state == "completed":
            return Claim("skip")
        if state == "running":
            return Claim("wait", delay=0.01)
        if state == "reused":
            return Claim("reject", error=KeyReuseError("another payload"))
        self.tokens += 1
        self.rows[key] = "running"
        return Claim("run", token=self.tokens, attempts=self.begun, row=key)

    async def renew(self, claims: Sequence[Claim], /) -> Sequence[bool]:
        self._called("renew", claims)
        return [claim.row not in self.refuse for claim in claims]

    async def complete(self, claims: Sequence[Claim], /) -> Sequence[bool]:
        await asyncio.sleep(0)
        self._called("complete", claims)
        for claim in claims:
            self.rows[claim.row] = "completed"
        return [claim.row not in self.refuse for claim in claims]

    async def release(self, claims: Sequence[Claim], outcomes: Sequence[Any], /) -> Sequence[bool]:
        self._called("release", claims)
        for claim, outcome in zip(claims, outcomes, strict=True):
            self.rows[claim.row] = "dead" if outcome == "dead" else "free"
        return [True] * len(claims)

    async def aclose(self) -> None:
        self.closed = True


class Guarded:
    """A handler as the decorator makes it."""

    def __init__(self, handler: Any, guard: FakeGuard) -> None:
        self.handler = handler
        self._guard = guard

    async def __call__(self, delivery: Delivery[Any]) -> None:
        await self.handler(delivery)

    async def guard(self, **where: Any) -> FakeGuard:
        return self._guard


async def test_claims_and_completions_go_in_batches() -> None:
    """Promise 29."""
    world, guard = World(concurrency=20, order="none"), FakeGuard()
    world.receiver.feed(*[b"1"] * 200)
    tokens: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        tokens.append(delivery.fencing_token)
        await asyncio.sleep(0.001)

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert len(set(tokens)) == 200
    assert set(guard.rows.values()) == {"completed"}
    assert len([name for name, _ in guard.calls if name == "claim"]) < 60
    assert len([name for name, _ in guard.calls if name == "complete"]) < 60
    assert guard.closed
    balance(world)


async def test_a_duplicate_is_acked_and_counted_and_does_not_run() -> None:
    """Promise 25."""
    world, guard = World(concurrency=4, order="none"), FakeGuard()
    for _ in range(5):
        world.receiver.feed(b"1", id="same")
    ran: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        ran.append(1)

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert ran == [1]
    assert world.counters["duplicates"] == 4
    assert world.counters["acked"] == 5
    balance(world)


async def test_completed_before_acked() -> None:
    """Promise 5: effect, row completed, ack."""
    world, guard = World(concurrency=1), FakeGuard()
    world.receiver.feed(b"1")
    settle, at_ack = world.receiver.settle_batch, list[str]()

    async def watched(settlements: Any, /) -> Any:
        at_ack.extend(guard.rows.values())
        return await settle(settlements)

    world.receiver.settle_batch = watched  # type: ignore[method-assign]  # a spy

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert at_ack == ["completed"]


async def test_reuse_of_a_key_is_dead_lettered_unrun() -> None:
    """Promise 26."""
    world, guard = World(retry=FAST, dead_letter="dead"), FakeGuard()
    guard.rows["id-0"] = "reused"
    world.receiver.feed(b"1")

    async def handle(delivery: Delivery[Any]) -> None:
        raise AssertionError("it must not run")

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert '"error_type":"KeyReuseError"' in world.letters[0][1].headers["unimsg-dead-letter"]
    balance(world)


async def test_a_store_that_is_down_before_the_handler_pauses_and_counts_nothing() -> None:
    """Promise 27."""
    world, guard = World(concurrency=3, order="key"), FakeGuard()
    guard.down = True
    for number in range(9):
        world.receiver.feed(b"1", key=f"k{number % 2}")
    seen: list[tuple[Any, int]] = []

    async def handle(delivery: Delivery[Any]) -> None:
        seen.append((delivery._received.token, delivery.attempt))

    task = world.start(Guarded(handle, guard))
    await until(lambda: "store" in world.subscriber.health().reasons)
    assert not seen
    guard.down = False
    await until(lambda: len(seen) == 9)
    assert {attempt for _, attempt in seen} == {1}
    assert [token for token, _ in seen if token % 2 == 0] == [0, 2, 4, 6, 8]
    assert "store" not in world.subscriber.health().reasons
    await world.stop(task)
    assert world.counters["acked"] == 9
    assert world.counters["deferred"] == 0
    balance(world)


async def test_a_store_that_is_down_after_the_handler_does_not_repeat_the_effect() -> None:
    """Promise 27: retried inside the lease, then acked with a metric."""
    world, guard = World(concurrency=1), FakeGuard()
    guard.lock = 0.2
    world.receiver.feed(b"1")
    effects: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        effects.append(1)
        guard.down = True

    task = world.start(Guarded(handle, guard))
    await until(lambda: world.counters.get("completion_failed") == 1)
    await until(lambda: world.receiver.verbs() == [("ack", 0)])
    assert effects == [1]
    await world.stop(task)


async def test_a_refused_token_is_lease_loss_never_success() -> None:
    """Promise 23."""
    world, guard = World(concurrency=1), FakeGuard()
    guard.refuse = {"id-0"}
    world.receiver.feed(b"1")

    async def handle(delivery: Delivery[Any]) -> None:
        pass

    task = world.start(Guarded(handle, guard))
    await until(lambda: world.counters.get("lost") == 1)
    await world.stop(task)
    assert not world.receiver.settled
    balance(world)


async def test_one_heartbeat_renews_the_store_then_the_broker() -> None:
    """Promise 24."""
    world, guard = World(capabilities=leased(0.12), concurrency=2), FakeGuard()
    loop = asyncio.get_running_loop()
    guard.refuse = {"id-1"}
    world.receiver.feed(b"1", b"2", lease_until=loop.time() + 0.12)
    lost: list[Any] = []

    async def handle(delivery: Delivery[Any]) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            lost.append((delivery.body, delivery.lease_lost))
            raise

    task = world.start(Guarded(handle, guard))
    await until(lambda: world.receiver.extended)
    await until(lambda: lost == [(2, True)])
    assert world.receiver.extended == [0], "what another worker holds is not extended"
    await world.stop(task, 0.01)
    balance(world)


async def test_stop_gives_claims_back_uncounted() -> None:
    world, guard = World(concurrency=1, order="none", drain=0.01), FakeGuard()
    world.receiver.feed(*[b"1"] * 10)
    started = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        started.set()
        await asyncio.sleep(100)

    task = world.start(Guarded(handle, guard))
    await started.wait()
    await world.stop(task)
    assert set(guard.rows.values()) == {"free"}
    assert {verb for verb, _ in world.receiver.verbs()} == {"release"}
    balance(world)


async def test_a_failure_releases_the_claim_and_runs_again() -> None:
    world, guard = World(retry=FAST, dead_letter="dead"), FakeGuard()
    world.receiver.feed(b"1", key="k")
    tokens: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        tokens.append(delivery.fencing_token)
        raise ValueError("no")

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert tokens == [1, 2, 3], "each claim has a higher token"
    assert guard.rows == {"id-0": "dead"}
    balance(world)


async def test_without_a_lease_claims_are_renewed_all_the_same() -> None:
    """Promises 8 and 24, on a log: nothing is extended there, and another worker must not get the claim meanwhile."""
    async with ManualClock() as clock:
        world, guard = World(limits=LOG, capabilities=Capabilities(ordering="key", groups=True)), FakeGuard()
        world.receiver.feed(b"1", assignment=Assignment("p0"))
        ended = asyncio.Event()

        async def handle(delivery: Delivery[Any]) -> None:
            await ended.wait()

        task = world.start(Guarded(handle, guard))
        await clock.advance(guard.lock * 3.5)
        renewals = [count for name, count in guard.calls if name == "renew"]
        # Beats are sixths of a lock: each renewal comes three or four of them after the one before.
        assert 5 <= len(renewals) <= 7, "early in the second half of each lock"
        ended.set()
        await clock.advance(1)
        assert guard.rows == {"id-0": "completed"}
        await clock.advance(guard.lock)
        assert len([name for name, _ in guard.calls if name == "renew"]) == len(renewals), "it is done"
        await world.stop(task)
    balance(world)


async def test_a_claim_lost_without_a_lease_cancels_its_handler() -> None:
    """Promises 8 and 23, on a log: the token is another's, so nothing is acked."""
    async with ManualClock() as clock:
        world, guard = World(limits=LOG), FakeGuard()
        world.receiver.feed(b"1", assignment=Assignment("p0"))
        lost: list[bool] = []

        async def handle(delivery: Delivery[Any]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                lost.append(delivery.lease_lost)

        task = world.start(Guarded(handle, guard))
        await clock.settle()
        guard.refuse = {"id-0"}
        await clock.advance(guard.lock)
        assert lost == [True]
        await world.stop(task)
    assert not world.receiver.settled
    assert world.counters["lost"] == 1
    balance(world)


async def test_a_lock_shorter_than_the_lease_has_a_beat_of_its_own() -> None:
    """Promise 24: half of the lease would be too late for it."""
    async with ManualClock() as clock:
        world, guard = World(capabilities=leased(1000.0)), FakeGuard()
        world.receiver.feed(b"1", lease_until=clock.time() + 1000.0)

        async def handle(delivery: Delivery[Any]) -> None:
            await asyncio.Event().wait()

        task = world.start(Guarded(handle, guard))
        await clock.advance(guard.lock)
        assert ("renew", 1) in guard.calls
        assert not world.receiver.extended
        await world.stop(task, 0.0)
    balance(world)


async def test_a_body_that_cannot_be_decoded_is_never_claimed() -> None:
    """Promise 13, case 39: no row for what nobody can read, and its neighbours run."""
    world, guard = World(order="none", dead_letter="dead"), FakeGuard()
    world.receiver.feed(b"1", b"{", b"3")
    bodies: list[int] = []

    async def handle(delivery: Delivery[Any]) -> None:
        bodies.append(delivery.body)

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert sorted(bodies) == [1, 3]
    assert set(guard.rows) == {"id-0", "id-2"}
    assert [letter.body for _, letter in world.letters] == [b"{"]
    balance(world)


async def test_a_message_that_kills_its_workers_ends_as_a_dead_letter() -> None:
    """Promise 10: executions that never ended count in the row, against `max_deliveries`."""
    world, guard = World(retry=FAST, dead_letter="dead"), FakeGuard()
    guard.begun = 9  # 3 times the attempts
    world.receiver.feed(b"1")

    async def handle(delivery: Delivery[Any]) -> None:
        pytest.fail("it must not run")

    await world.subscriber.run_until_idle(Guarded(handle, guard))
    assert guard.rows == {"id-0": "dead"}
    assert len(world.letters) == 1
    balance(world)


async def test_a_lost_completion_is_not_a_lost_lease() -> None:
    """Promise 24: what is being completed is not taken away by a beat that meets it."""
    async with ManualClock() as clock:
        world, guard = World(concurrency=1), FakeGuard()
        world.receiver.feed(b"1", lease_until=clock.time() + 1000.0)
        let = asyncio.Event()
        complete = guard.complete

        async def slow(claims: Sequence[Claim], /) -> Sequence[bool]:
            results = await complete(claims)
            guard.refuse = {"id-0"}  # a renewal that comes now finds a row that is done
            await let.wait()
            return results

        guard.complete = slow  # type: ignore[method-assign]  # a store that answers late

        async def handle(delivery: Delivery[Any]) -> None:
            pass

        task = world.start(Guarded(handle, guard))
        await clock.advance(guard.lock)
        assert ("renew", 1) in guard.calls
        let.set()
        await clock.advance(1)
        assert world.receiver.verbs() == [("ack", 0)]
        await world.stop(task)
    assert world.counters["lost"] == 0
    balance(world)


@pytest.mark.parametrize(
    ("ending", "row"), [("done", "completed"), ("raised", "free"), ("cancelled", "free")]
)
async def test_a_handler_that_outlives_its_assignment_still_ends_its_claim(ending: str, row: str) -> None:
    """Case 50, promise 8: nothing is acked; what was done is noted, and nobody has to wait for the lock."""
    world, guard = World(limits=LOG, concurrency=1), FakeGuard()
    assignment = Assignment("p0")
    world.receiver.feed(b"1", assignment=assignment)
    running = asyncio.Event()

    async def handle(delivery: Delivery[Any]) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "cancelled":
                raise
            if ending == "raised":
                raise ValueError from None

    task = world.start(Guarded(handle, guard))
    await running.wait()
    assert world.events is not None
    world.events.lost([assignment])
    await until(lambda: guard.rows == {"id-0": row})
    await world.stop(task)
    assert not world.receiver.settled
    assert world.counters["lost"] == 1
    balance(world)
