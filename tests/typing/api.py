"""What the type checkers promise to users: a file that mypy and pyright read and nobody runs.

Law: only the public surface. An expected error is a `type: ignore` with its code; one that is no longer an error
is reported as unused, so that every line here can fail.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import msgspec

import unimsg
import unimsg.sync
import unimsg.testing
from unimsg import Client, Delivery, Message, Position, Publisher, Receipt, RetryPolicy, Subscriber, codecs
from unimsg.idempotency import Store
from unimsg.spi import Drift, Topology


class Order(msgspec.Struct):
    """A body by class."""

    id: int


@dataclass
class Payment:
    """A body by dataclass."""

    amount: float


# ---------------------------------------------------------------- connect

client = unimsg.connect("sqlite:///orders.db", needs=unimsg.Needs(ordering="key"))
assert_type(client, Client)
unimsg.connect(7)  # type: ignore[arg-type]  # neither URL nor options
unimsg.Needs(ordering="sometimes")  # type: ignore[arg-type]  # no such level
assert_type(client.capabilities, unimsg.Capabilities)
assert_type(unimsg.options_schema("sqlite"), dict[str, Any])


# ---------------------------------------------------------------- publish

orders = client.publisher("orders", codec=Order)
assert_type(orders, Publisher[Order])
assert_type(client.publisher("orders", codec=Payment), Publisher[Payment])
assert_type(client.publisher("raw", codec=codecs.BYTES), Publisher[bytes | None])
assert_type(client.publisher("raw", codec=codecs.TEXT), Publisher[str])
assert_type(client.publisher("raw"), Publisher[Any])


class Reversed:
    """A codec by hand: what it must have, nothing of ours to inherit."""

    content_type = "application/x-reversed"

    def encode(self, body: str, /) -> bytes:
        """Write."""
        return body[::-1].encode()

    def decode(self, raw: bytes | None, /) -> str:
        """Read."""
        return (raw or b"").decode()[::-1]


assert_type(client.publisher("texts", codec=Reversed()), Publisher[str])
client.publisher("texts", codec="json")  # type: ignore[call-overload]  # no codec by name


async def publishing() -> None:
    """What a publisher takes and gives."""
    assert_type(await orders.publish(Order(id=1), key="customer", timeout=timedelta(seconds=5)), Receipt)
    await orders.publish(Payment(amount=1.0))  # type: ignore[arg-type]  # another body than the codec's
    await orders.publish(Order(id=1), "customer")  # type: ignore[call-arg]  # the key has a name
    await orders.publish(Order(id=1), headers={"attempt": 1})  # type: ignore[dict-item]  # headers are text to text
    assert_type(await orders.publish_many([Message(body=Order(id=1))]), list[Receipt])
    assert_type(await client.publish("orders", {"id": 1}, delay=5, priority=9), Receipt)


def receipts(receipt: Receipt) -> None:
    """What a receipt tells."""
    assert_type(receipt.id, str | None)
    assert_type(receipt.position, Position | None)
    receipt.id = "other"  # type: ignore[misc]  # a receipt is a fact


# ---------------------------------------------------------------- consume

audit = client.subscriber("orders", group="audit", codec=Order, order="key", concurrency=64)
assert_type(audit, Subscriber[Order])
assert_type(client.subscriber("orders", group="audit"), Subscriber[Any])
client.subscriber("orders", group="audit", order="sometimes")  # type: ignore[call-overload]  # no such order
client.subscriber("orders", grp="audit")  # type: ignore[call-overload]  # no such setting
client.subscriber(
    "orders", start=datetime.now(UTC), retry=RetryPolicy(max_attempts=3, initial=timedelta(seconds=1))
)
client.subscriber("orders", start="yesterday")  # type: ignore[call-overload]  # a word that is none


async def handle(delivery: Delivery[Order]) -> None:
    """A handler as it should be."""
    assert_type(delivery.body, Order)
    assert_type(delivery.key, str | None)
    assert_type(delivery.headers, Mapping[str, str])
    assert_type(delivery.attempt, int)
    assert_type(await delivery.publish("receipts", {"order": delivery.body.id}, key=delivery.key), Receipt)
    await delivery.ack()
    await delivery.fail(delay=timedelta(seconds=1))
    await delivery.defer(5)
    await delivery.dead_letter("poison")
    await delivery.defer("soon")  # type: ignore[arg-type]  # a duration is seconds or a timedelta
    delivery.body.total  # type: ignore[attr-defined]  # noqa: B018 - the body has its type


async def handle_batch(deliveries: Sequence[Delivery[Order]]) -> None:
    """A handler of batches."""
    for delivery in deliveries:
        assert_type(delivery, Delivery[Order])


async def handle_payment(delivery: Delivery[Payment]) -> None:
    """A handler of something else."""


def blocking(delivery: Delivery[Order]) -> None:
    """A handler that would block the loop."""


async def consuming() -> None:
    """What a subscriber runs and yields."""
    async for delivery in audit:
        assert_type(delivery, Delivery[Order])
        async with delivery:
            pass
    await audit.run(handle)
    await audit.run_until_idle(handle)
    await audit.run(handle_payment)  # type: ignore[arg-type]  # a handler of another body
    await audit.run(blocking)  # type: ignore[arg-type]  # handlers are `async def`
    await audit.run(handle_batch)
    await audit.seek("oldest")
    audit.pause()
    audit.resume()
    assert_type((await audit.run_until_idle(handle)).counters, dict[str, int])
    audit.destination = "other"  # type: ignore[misc]  # a subscriber has one destination


def retrying() -> None:
    """How often, how soon, which errors."""
    RetryPolicy(jitter="none", retry_on=(ConnectionError, TimeoutError), give_up_on=ValueError)
    RetryPolicy(wait=lambda attempt: timedelta(seconds=attempt))
    RetryPolicy(jitter="some")  # type: ignore[arg-type]  # no such jitter
    RetryPolicy(retry_on="ValueError")  # type: ignore[arg-type]  # a class
    RetryPolicy(5)  # type: ignore[call-arg]  # each argument has a name


# ---------------------------------------------------------------- route

router = unimsg.Router()
store = unimsg.store("memory://")


@router.on(
    "orders", group="billing", codec=Order, retry=RetryPolicy(max_attempts=5), dead_letter="orders-dead"
)
@unimsg.idempotent(store, key=lambda delivery: str(delivery.body.id))
async def charge(delivery: Delivery[Order]) -> None:
    """Registered, and still itself."""


async def routing() -> None:
    """A decorated handler is what it was."""
    assert_type(await router.run(client), None)
    async with client, router.running(client):
        pass
    for report in await router.run_until_idle(client):
        assert_type(report.destination, str)
    await router.run("sqlite:///orders.db")  # type: ignore[arg-type]  # a client


def watching() -> None:
    """What a probe asks."""
    health = client.health()
    assert_type(health.live, bool)
    assert_type(health.ready, bool)
    assert_type(health.reasons, Sequence[str])


async def operating() -> None:
    """What an operator does."""
    drifts = await client.provision(Topology(destination="orders", groups=["billing"], dead_letter="dead"))
    assert_type(drifts, Sequence[Drift])
    await client.redrive("dead", "orders", group="billing", limit=10)
    await client.redrive("dead", "orders")  # type: ignore[call-arg]  # for whom?


# ---------------------------------------------------------------- blocking, and tests


def blocking_publishers() -> None:
    """A script without a loop."""
    with unimsg.sync.connect("sqlite:///orders.db") as blocking_client:
        assert_type(blocking_client.publish("orders", {"id": 1}), Receipt)
        publisher = blocking_client.publisher("orders", codec=Order)
        assert_type(publisher.publish(Order(id=1)), Receipt)
        publisher.publish(Payment(amount=1.0))  # type: ignore[arg-type]  # another body than the codec's


async def testing_by_hand() -> None:
    """A delivery without a broker."""
    given = unimsg.testing.delivery(Order(id=1), codec=Order, key="customer")
    assert_type(given, unimsg.testing.HandMade[Order])
    settled = await unimsg.testing.handle(handle, given)
    assert_type(settled.reason, str)
    assert_type(given.settlement, unimsg.testing.Settled | None)
    async with unimsg.testing.ManualClock(auto=True) as clock:
        await clock.advance(timedelta(hours=1))


async def testing_strictly(unimsg_run: Callable[[unimsg.Router], Awaitable[unimsg.testing.Run]]) -> None:
    """What the pytest plugin gives."""
    run = await unimsg_run(router)
    assert_type(run.published, list[tuple[str, Message[Any]]])
    assert_type(run.errors, list[BaseException])
    assert_type([letter.info.reason for letter in run.dead_letters], list[str])


async def unit(delivery: Delivery[Order]) -> None:
    """A handler can be called by a test, also when it is decorated."""
    await charge(delivery)
    await charge(delivery, 1)  # type: ignore[call-arg]  # one delivery, nothing else
    await charge("delivery")  # type: ignore[arg-type]  # a delivery


@unimsg.idempotent(store, key=lambda order: str(order.id))
async def refund(order: Order, reason: str = "") -> int:
    """A plain function keeps its signature."""
    return order.id + len(reason)


@unimsg.idempotent(
    store,
    key=lambda order: order.id,
    fingerprint=msgspec.json.encode,
    ttl=timedelta(days=7),
    lock=30,
    scope="refunds",
    on_missing_key="run",
    on_store_error="run",
)
async def settle(order: Order) -> None:
    """A key is text or a whole number; durations are seconds or timedeltas."""


unimsg.idempotent(store)(blocking)  # type: ignore[arg-type]  # what it runs is `async def`
unimsg.idempotent("memory://")  # type: ignore[arg-type]  # a store, not its URL
unimsg.idempotent(store, on_store_error="ignore")  # type: ignore[arg-type]  # it does not


async def holding() -> None:
    """A store is held open by who uses it."""
    async with store as held:
        assert_type(held, Store)


async def calling() -> None:
    """The decorator changes no type."""
    assert_type(await settle(Order(id=1)), None)
    assert_type(await refund(Order(id=1)), int)
    assert_type(await refund(Order(id=1), reason="late"), int)
    await refund("order")  # type: ignore[arg-type]  # an Order


# ---------------------------------------------------------------- signals and errors


def signals() -> None:
    """What a handler raises to choose a verdict."""
    unimsg.Fail(delay=5)
    unimsg.Defer(timedelta(minutes=1))
    unimsg.DeadLetter("poison")
    unimsg.Defer("soon")  # type: ignore[arg-type]  # a duration is seconds or a timedelta
    unimsg.DeadLetter()  # type: ignore[call-arg]  # why?


def errors(error: unimsg.Error) -> None:
    """Facts are attributes."""
    assert_type(error.backend, str | None)
    assert_type(error.retryable, bool)
    if isinstance(error, unimsg.CapabilityError):
        assert_type(error.missing, tuple[str, ...])
