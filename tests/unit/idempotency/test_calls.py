"""The decorator on plain async functions: claimed, run and completed by the call itself (promises 22, 23, 26, 27)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import unimsg
from unimsg.errors import (
    ConfigError,
    Defer,
    IdempotencyError,
    InProgressError,
    KeyReuseError,
    MissingKeyError,
    StoreUnavailableError,
)
from unimsg.idempotency import Store
from unimsg.stores.memory import MemoryStore
from unimsg.testing.clock import ManualClock
from unimsg.testing.conformance.stores.trouble import Between


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with unimsg.store("memory://") as store:
        yield store


async def test_a_duplicate_returns_what_the_first_call_returned(store: Store) -> None:
    ran: list[str] = []

    @unimsg.idempotent(store, key=lambda order, **_: order["id"])
    async def charge(order: dict[str, str], *, currency: str = "EUR") -> dict[str, Any]:
        """Charge it."""
        ran.append(order["id"])
        return {"charged": order["id"], "in": currency}

    first = await charge({"id": "1"}, currency="CHF")
    assert await charge({"id": "1"}) == first == {"charged": "1", "in": "CHF"}
    assert ran == ["1"]


async def test_results_keep_their_type(store: Store) -> None:
    @unimsg.idempotent(store, key=str)
    async def many(number: int) -> list[tuple[int, str]]:
        return [(number, "a")]

    @unimsg.idempotent(store, key=str)
    async def maybe(number: int) -> int | None:
        return number or None

    @unimsg.idempotent(store, key=str)
    async def text(number: int) -> str:
        return ""

    for function, expected in ((many, [(0, "a")]), (maybe, None), (text, "")):
        assert [await function(0), await function(0)] == [expected, expected]
    assert [await maybe(3), await maybe(3)] == [3, 3]


@pytest.mark.parametrize("result", [object(), "x" * 70_000])
async def test_a_result_that_cannot_be_kept(
    store: Store, caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    """The effect is done: the first caller has its result, a duplicate hears that it is gone, nobody runs it again."""
    ran: list[int] = []

    @unimsg.idempotent(store, key=str)
    async def work(number: int) -> Any:
        ran.append(number)
        return result

    assert await work(1) is result
    with pytest.raises(IdempotencyError, match="was done for key '1', and its result could not be kept"):
        await work(1)
    assert ran == [1]
    assert "is not kept" in caplog.text


async def test_it_is_still_the_function() -> None:
    @unimsg.idempotent(unimsg.store("memory://"), key=str)
    async def work(number: int, *, more: str = "") -> None:
        """What it does."""

    assert (work.__name__, work.__doc__) == ("work", "What it does.")
    assert list(inspect.signature(work).parameters) == ["number", "more"]
    coroutine = work(1)
    assert inspect.iscoroutine(coroutine)
    await coroutine


async def test_one_runs_and_the_others_hear_for_how_long(store: Store) -> None:
    """Promise 25: of ten at once one runs."""
    begun, let = asyncio.Event(), asyncio.Event()

    @unimsg.idempotent(store, key=str, lock=20)
    async def work(number: int) -> int:
        begun.set()
        await let.wait()
        return number

    first = asyncio.create_task(work(1))
    await begun.wait()
    with pytest.raises(InProgressError) as caught:
        await work(1)
    assert caught.value.retryable
    assert 19 < (caught.value.retry_after or 0) <= 20
    let.set()
    assert await first == await work(1) == 1


async def test_a_failure_lets_the_next_call_run(store: Store) -> None:
    results: Iterator[int | ValueError] = iter([ValueError("no"), 7])

    @unimsg.idempotent(store, key=str)
    async def work(number: int) -> int:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(ValueError, match="no"):
        await work(1)
    assert await work(1) == 7


async def test_a_cancelled_call_gives_its_claim_back_uncounted(store: Store) -> None:
    """Case 31: at once, for the next to have."""
    begun = asyncio.Event()

    @unimsg.idempotent(store, key=lambda d: d.body, scope="job")
    async def work(delivery: unimsg.Delivery[str]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            begun.set()
            await asyncio.Event().wait()

    attempts: list[int] = []
    task = asyncio.create_task(work(_delivery("1")))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await work(_delivery("1"))
    assert attempts == [1, 1]


def _delivery(body: Any, **facts: Any) -> Any:
    from unimsg.testing import delivery  # noqa: PLC0415 - the name is taken by arguments here

    return delivery(body, **facts)


async def test_a_cancellation_during_completion_waits_for_it(tmp_path: Any) -> None:
    """Case 31: the effect is done, so it is noted before the cancellation goes on."""
    async with unimsg.store(f"sqlite:///{tmp_path}/seen.db") as inner:
        between, ran = Between(inner), list[int]()
        completing, let = asyncio.Event(), asyncio.Event()
        complete = between.complete

        async def slow(*args: Any, **kwargs: Any) -> Any:
            completing.set()
            await let.wait()
            return await complete(*args, **kwargs)

        between.complete = slow  # type: ignore[method-assign]  # a store that takes its time

        @unimsg.idempotent(between, key=str)
        async def work(number: int) -> None:
            ran.append(number)

        task = asyncio.create_task(work(1))
        await completing.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        let.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await work(1)
        assert ran == [1]


async def test_another_payload(store: Store) -> None:
    """Promise 26: permanent, and it never returns what the first call returned."""

    @unimsg.idempotent(store, key=lambda order: order["id"], fingerprint=lambda order: str(order["amount"]))
    async def charge(order: dict[str, Any]) -> float:
        return float(order["amount"])

    assert await charge({"id": "1", "amount": 5}) == 5
    with pytest.raises(KeyReuseError, match=r"key '1' of .* was used with another payload"):
        await charge({"id": "1", "amount": 6})
    assert await charge({"id": "1", "amount": 5}) == 5


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (lambda _: None, "key= returned None: there is no key"),
        (lambda _: "", "key= returned '': there is no key"),
        (lambda _: 1.5, "key= returned float, not text: return str"),
        (lambda _: True, "key= returned bool, not text"),
        (lambda _: b"k", "key= returned bytes, not text"),
        (lambda order: order["missing"], "key= raised KeyError: 'missing'"),
        (None, "there is no message id to take for a key: give @idempotent"),
    ],
)
async def test_no_key(store: Store, key: Any, sentence: str) -> None:
    @unimsg.idempotent(store, key=key)
    async def charge(order: dict[str, Any]) -> None:
        pytest.fail("it must not run")

    with pytest.raises(MissingKeyError, match=sentence) as caught:
        await charge({})
    assert not caught.value.retryable


async def test_no_key_and_run(store: Store) -> None:
    ran: list[str] = []

    @unimsg.idempotent(store, key=lambda key: key or None, on_missing_key="run")
    async def work(key: str) -> None:
        ran.append(key)

    for key in ("", "", "k", "k"):
        await work(key)
    assert ran == ["", "", "k"]


@pytest.mark.parametrize("fingerprint", [lambda _: 7, lambda order: order["missing"]])
async def test_no_fingerprint(store: Store, fingerprint: Any) -> None:
    @unimsg.idempotent(store, key=lambda _: "k", fingerprint=fingerprint)
    async def work(order: dict[str, Any]) -> None:
        pytest.fail("it must not run")

    with pytest.raises(MissingKeyError, match="fingerprint= "):
        await work({})


async def test_keys_of_any_length_and_sort(store: Store) -> None:
    """Promise 22: a whole number is its digits; what a store may not take is stored as a digest."""
    ran: list[Any] = []

    @unimsg.idempotent(store, key=lambda key: key)
    async def work(key: Any) -> None:
        ran.append(key)

    keys = [7, "k" * 10_000, "k" * 9_999, "é" * 150, "a\0b", "\ud800", "🐘"]
    for key in [*keys, *keys, "7"]:
        await work(key)
    assert ran == keys
    assert isinstance(store, MemoryStore)
    assert max(len(key.encode()) for _, key in store._table.rows) <= 200


async def test_methods_are_bound(store: Store) -> None:
    """The key is asked of what it is called with; two instances share the keys, as they share the effect."""

    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        @unimsg.idempotent(store, key=lambda order: order)
        async def charge(self, order: str) -> str:
            return f"{self.name} {order}"

    assert await Service("a").charge("1") == "a 1"
    assert await Service("b").charge("1") == "a 1"
    assert await Service("b").charge("2") == "b 2"


async def test_scopes(store: Store) -> None:
    """Promise 22: a function is its own scope; a scope that is given can be shared, and survives a new name."""
    ran: list[str] = []

    async def one(key: str) -> None:
        ran.append("one")

    async def two(key: str) -> None:
        ran.append("two")

    for function in (one, two):
        await unimsg.idempotent(store, key=str)(function)("k")
    for function in (one, two):
        await unimsg.idempotent(store, key=str, scope="both")(function)("k")
    assert ran == ["one", "two", "one"]


# ---------------------------------------------------------------- the store


async def test_down_before_the_call(store: Store) -> None:
    """Promise 27."""
    between = Between(store)
    between.down = True

    @unimsg.idempotent(between, key=str)
    async def work(number: int) -> None:
        pytest.fail("it must not run")

    with pytest.raises(StoreUnavailableError) as caught:
        await work(1)
    assert caught.value.retryable


async def test_down_before_the_call_and_run(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 27, `on_store_error="run"`."""
    between = Between(store)
    between.down = True

    @unimsg.idempotent(between, key=str, on_store_error="run")
    async def work(number: int) -> int:
        return number

    assert await work(1) == await work(1) == 1
    assert "runs unclaimed: it is down" in caplog.text


async def test_down_after_the_effect(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 27: tried again within the lock, then the caller has its result; raising would invite a second effect."""
    between = Between(store)

    @unimsg.idempotent(between, key=str, lock=20)
    async def work(number: int) -> int:
        between.down = True
        return number

    async with ManualClock(auto=True):
        assert await work(1) == 1
    assert between.calls.count("complete") > 3
    assert "was done and could not be marked so" in caplog.text


async def test_back_in_time_after_the_effect(store: Store) -> None:
    """Promise 27: then it is noted, and a duplicate is one."""
    between, ran = Between(store), list[int]()

    @unimsg.idempotent(between, key=str)
    async def work(number: int) -> int:
        ran.append(number)
        between.lose = 2
        return number

    async with ManualClock(auto=True):
        assert await work(1) == await work(1) == 1
    assert ran == [1]


async def test_it_opens_the_store_itself() -> None:
    """Outside `async with store` each call holds it open for as long as it takes."""
    opened: list[str] = []

    class Told(MemoryStore):
        async def open(self) -> None:
            opened.append("open")

        async def close(self) -> None:
            opened.append("close")

    inner = unimsg.store("memory://")
    assert isinstance(inner, MemoryStore)
    store = Told(inner._options)

    @unimsg.idempotent(store, key=str)
    async def work(number: int) -> int:
        return number

    assert await work(1) == await work(1) == 1
    assert opened == ["open", "close"] * 2
    async with store, store:
        assert list(await asyncio.gather(work(1), work(2))) == [1, 2]
    assert opened == ["open", "close"] * 3


def test_one_loop_after_the_other() -> None:
    """A store is used by one event loop at a time; its rows outlive them."""
    store, ran = unimsg.store("memory://"), list[int]()

    @unimsg.idempotent(store, key=str)
    async def work(number: int) -> None:
        ran.append(number)

    async def and_leave_it_open() -> None:
        await store.__aenter__()
        await work(1)

    asyncio.run(and_leave_it_open())
    asyncio.run(work(1))
    assert ran == [1]


async def test_two_loops_at_once_are_refused(store: Store) -> None:
    async def use() -> None:
        async with store:
            pass

    with pytest.raises(ConfigError, match="is open on another event loop: make a store for each"):
        await asyncio.to_thread(asyncio.run, use())


# ---------------------------------------------------------------- a handler called by hand


async def test_a_handler_in_a_test(store: Store) -> None:
    """It has the rows that its loop has, its attempt and its token."""
    seen: list[tuple[int, int]] = []

    @unimsg.idempotent(store)
    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        seen.append((delivery.attempt, delivery.fencing_token))
        if delivery.attempt == 1:
            raise ValueError

    from unimsg.testing import handle as by_hand  # noqa: PLC0415 - the name is that of every handler

    outcomes = [(await by_hand(handle, _delivery({}, id="1"))).verb for _ in range(3)]
    assert outcomes == ["fail", "ack", "ack"]
    assert [attempt for attempt, _ in seen] == [1, 2]
    assert seen[0][1] < seen[1][1]


async def test_what_a_duplicate_in_progress_means_to_a_handler(store: Store) -> None:
    """Promise 25: put off for as long as the other may run, and not counted."""
    let, begun = asyncio.Event(), asyncio.Event()

    @unimsg.idempotent(store, lock=20)
    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        begun.set()
        await let.wait()

    from unimsg.testing import handle as by_hand  # noqa: PLC0415 - as above

    first = asyncio.create_task(handle(_delivery({}, id="1")))
    await begun.wait()
    second = await by_hand(handle, _delivery({}, id="1"))
    assert second.verb == "defer"
    assert 19 < (second.delay or 0) <= 20
    let.set()
    await first


async def test_a_deferral_does_not_count(store: Store) -> None:
    """Promise 9."""
    attempts: list[int] = []

    @unimsg.idempotent(store)
    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            raise Defer(1)

    with pytest.raises(Defer):
        await handle(_delivery({}, id="1"))
    await handle(_delivery({}, id="1"))
    assert attempts == [1, 1]


async def test_what_failed_for_good_in_a_loop(store: Store) -> None:
    """Promise 25: acked by a handler; a plain call with its scope hears of it."""

    @unimsg.idempotent(store, key=lambda _: "k", scope="job")
    async def handle(delivery: Any) -> None:
        raise unimsg.DeadLetter("poison")

    async with unimsg.connect("memory://") as client:
        await client.publish("orders", {"at": datetime.now(UTC).isoformat()})
        await client.subscriber("orders", group="g", dead_letter="dead").run_until_idle(handle)
    await handle(_delivery({}, group="g"))
    ask = await store.claim([unimsg.idempotency.Ask("g/job", "k")], lock=1, ttl=9)
    assert [getattr(answer, "state", None) for answer in ask] == ["failed"]
