"""Settler: what it was given is settled when its flush returns (promise 17)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.consuming.fakes import delivery
from tests.unit.consuming.harness import FakeReceiver, until
from unimsg.consuming.settler import TRIES, Settler
from unimsg.errors import Error, UnavailableError
from unimsg.spi import ReceiveLimits, Settlement
from unimsg.testing.clock import ManualClock


class Slow(FakeReceiver):
    """A receiver whose settlements take as long as the test says."""

    def __init__(self) -> None:
        super().__init__(ReceiveLimits(max_messages=10, settle_every=60.0))
        self.calls = 0
        self.may_answer = asyncio.Semaphore(0)

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Answer when told to."""
        self.calls += 1
        await self.may_answer.acquire()
        return await super().settle_batch(settlements)


class Ledger:
    """What was settled, and what was lost."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def finished(self, deliveries: Sequence[object], outcome: str, /) -> None:
        """These are settled."""
        self.done += deliveries

    def lost(self, deliveries: Sequence[object], error: BaseException, /) -> None:
        """None may be."""
        pytest.fail(f"{deliveries} lost: {error}")


async def test_a_flush_waits_for_what_came_while_another_batch_was_under_way() -> None:
    """The timer of an ack that went along with the batch before it is not the timer of this one."""
    receiver, ledger = Slow(), Ledger()
    settler = Settler(receiver, ledger, lambda _: None, "d")
    first, second, third = (delivery(seq) for seq in range(3))
    settler.ack(first)
    settler.kick()
    await until(lambda: receiver.calls == 1)
    settler.ack(second)
    receiver.may_answer.release()
    receiver.may_answer.release()
    await until(lambda: ledger.done == [first, second])

    settler.ack(third)
    flushing = asyncio.create_task(settler.flush())
    await until(lambda: receiver.calls == 3)
    assert not flushing.done()
    receiver.may_answer.release()
    await flushing
    assert ledger.done == [first, second, third]
    await settler.aclose()


class Unable(FakeReceiver):
    """A receiver whose service takes nothing, far longer than a settlement is tried."""

    def __init__(self) -> None:
        super().__init__(ReceiveLimits(max_messages=10))
        self.refusals = 5 * TRIES

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Refuse, then take."""
        self.refusals -= 1
        return [UnavailableError("not now") if self.refusals > 0 else None] * len(settlements)


class Losses(Ledger):
    """What was lost is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[object] = []

    def lost(self, deliveries: Sequence[object], error: BaseException, /) -> None:
        """These are."""
        self.gone += deliveries


async def test_without_a_lease_nobody_else_brings_it_back_so_it_is_never_given_up() -> None:
    """Promise 1: given up on a channel that lives on, it would be stuck there until the consumer ends."""
    async with ManualClock(auto=True):
        receiver, ledger = Unable(), Losses()
        settler = Settler(receiver, ledger, lambda _: None, "d")
        failed = delivery()
        settler.settle(failed, "retry", "failed")
        await settler.flush()
        await settler.aclose()

    assert (ledger.done, ledger.gone) == ([failed], [])


async def test_with_a_lease_it_is_given_up_after_some_tries() -> None:
    """Its lease ends, and it comes again."""
    async with ManualClock(auto=True) as clock:
        receiver, ledger = Unable(), Losses()
        settler = Settler(receiver, ledger, lambda _: None, "d")
        failed = delivery(lease_until=clock.time() + 3600)
        settler.settle(failed, "retry", "failed")
        await settler.flush()
        await settler.aclose()

    assert (ledger.done, ledger.gone) == ([], [failed])
