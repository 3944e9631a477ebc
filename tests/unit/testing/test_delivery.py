"""testing.delivery: handlers are tested without a broker, and find what a loop would give them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from unimsg import testing
from unimsg.errors import ConfigError, DeadLetter, Defer, EncodeError, Fail, LeaseLostError, SettleError
from unimsg.policies.retry import RetryPolicy

EXACT = RetryPolicy(jitter="none", max_attempts=3)


@dataclass
class Order:
    id: int


async def test_a_handler_finds_what_a_loop_would_give() -> None:
    made = testing.delivery(
        Order(7), codec=Order, key="customer-1", headers={"a": "b"}, id="m-1", attempt=2, destination="orders"
    )
    assert made.body == Order(7)
    assert made.message.body == b'{"id":7}'
    assert (made.key, made.headers, made.id, made.attempt) == ("customer-1", {"a": "b"}, "m-1", 2)
    assert (made.deliveries, made.destination, made.group) == (2, "orders", "group")
    assert made.settlement is None
    assert not made.settled


async def test_verbs_are_written_down() -> None:
    """Promise 9: each verb with its arguments."""
    acked, failed, deferred, dead = (testing.delivery(n) for n in range(4))
    await acked.ack()
    await failed.fail(delay=3)
    await deferred.defer(4)
    await dead.dead_letter("broken")
    assert acked.settlement == testing.Settled("ack")
    assert failed.settlement == testing.Settled("fail", delay=3)
    assert deferred.settlement == testing.Settled("defer", delay=4)
    assert dead.settlement == testing.Settled("dead_letter", reason="broken")
    assert acked.settled


async def test_a_delivery_is_settled_once() -> None:
    made: testing.HandMade[Any] = testing.delivery({})
    await made.ack()
    await made.ack()
    with pytest.raises(SettleError, match="fail after ack"):
        await made.fail()


async def test_what_it_publishes_is_written_down() -> None:
    made = testing.delivery({"id": 7}, key="k")
    receipt = await made.publish("receipts", {"order": 7}, key=made.key)
    [(destination, message)] = made.published
    assert (destination, message.body, message.key) == ("receipts", {"order": 7}, "k")
    assert receipt.id == message.id


async def test_the_context_manager_settles() -> None:
    good, bad = testing.delivery(1), testing.delivery(2)
    async with good:
        pass
    with pytest.raises(ValueError, match="no"):
        async with bad:
            raise ValueError("no")
    assert good.settlement == testing.Settled("ack")
    assert bad.settlement is not None
    assert bad.settlement.verb == "fail"


async def test_a_lost_lease_cannot_be_settled() -> None:
    """Promise 8: the handler is told, nothing is acked."""
    made = testing.delivery(1)
    made.lose()
    assert made.lease_lost
    with pytest.raises(LeaseLostError):
        await made.ack()


@pytest.mark.parametrize(
    ("raised", "verb", "delay"),
    [
        (None, "ack", None),
        (ValueError("x"), "fail", 1.0),
        (Fail("x", delay=9), "fail", 9.0),
        (Defer(5), "defer", 5.0),
        (DeadLetter("x"), "dead_letter", 0.0),
        (ExceptionGroup("both", [Defer(5), DeadLetter("x")]), "dead_letter", 0.0),
    ],
)
async def test_handle_says_what_would_become_of_it(
    raised: Exception | None, verb: str, delay: float | None
) -> None:
    async def handler(_delivery: object) -> None:
        if raised is not None:
            raise raised

    settled = await testing.handle(handler, testing.delivery({}), retry=EXACT)
    assert (settled.verb, settled.delay) == (verb, delay)


async def test_the_last_attempt_is_dead_lettered() -> None:
    async def handler(_delivery: object) -> None:
        raise ValueError("again")

    assert (await testing.handle(handler, testing.delivery({}, attempt=2), retry=EXACT)).verb == "fail"
    assert (await testing.handle(handler, testing.delivery({}, attempt=3), retry=EXACT)).verb == "dead_letter"


async def test_what_a_loop_would_refuse_is_refused() -> None:
    with pytest.raises(EncodeError):
        testing.delivery(object())
    with pytest.raises(ConfigError, match="not `async def`"):
        await testing.handle(lambda _delivery: None, testing.delivery({}))  # type: ignore[arg-type,return-value]  # the point

    async def chatty(_delivery: object) -> str:
        return "done"

    settled = await testing.handle(chatty, testing.delivery({}))
    assert settled.verb == "dead_letter"


@pytest.mark.parametrize("first", testing.__all__)
def test_each_name_is_what_it_says_whichever_is_asked_for_first(first: str) -> None:
    """A module of the package must not hide a function of the same name."""
    program = f"import unimsg.testing as t; t.{first}; print(*(type(getattr(t, name)).__name__ for name in t.__all__))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "module" not in run.stdout.split()
