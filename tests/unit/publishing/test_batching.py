"""Batching: when a batch goes out, what is in it, how many are out."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence

import pytest

from tests.unit.publishing.support import Clock, FakeSender, by_key, publisher, turns
from unimsg.errors import Error, OutcomeUnknownError, UnavailableError
from unimsg.message import Message, Receipt, WireMessage
from unimsg.publishing.batcher import YIELD_EVERY
from unimsg.publishing.publisher import Publisher


async def test_what_is_published_in_one_turn_shares_batches() -> None:
    """Performance, batching rule: nothing in flight sends at once, and full batches leave in parallel."""
    sender = FakeSender()
    way = publisher(sender)
    receipts = await asyncio.gather(*(way.publish(str(number).encode()) for number in range(25)))
    assert [message.id for message in sender.stored] == [receipt.id for receipt in receipts]
    assert [len(batch) for batch in sender.batches] == [10, 10, 5]
    assert way.stats.batches == 3
    await way.aclose()


async def test_while_one_is_out_the_next_waits_until_it_is_full() -> None:
    """Performance, batching rule: flush by count."""
    Clock()
    sender = FakeSender(max_messages=3)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"first"))]
    await turns()
    for _ in range(2):
        calls.append(asyncio.create_task(way.publish(b"x")))
        await turns()
    assert len(sender.batches) == 1
    calls.append(asyncio.create_task(way.publish(b"x")))
    await turns()
    assert [len(batch) for batch in sender.batches] == [1, 3]
    sender.gate.set()
    await asyncio.gather(*calls)
    await way.aclose()


async def test_while_one_is_out_the_next_waits_until_it_is_heavy() -> None:
    """Promise 19: batches are split by bytes as well as by count."""
    Clock()
    sender = FakeSender(max_bytes=100)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"f" * 90))]
    await turns()
    for _ in range(3):
        calls.append(asyncio.create_task(way.publish(b"x" * 40)))
        await turns()
    assert [len(batch) for batch in sender.batches] == [1, 2]
    sender.gate.set()
    await asyncio.gather(*calls)
    assert [len(batch) for batch in sender.batches] == [1, 2, 1]
    await way.aclose()


async def test_while_one_is_out_the_next_waits_no_longer_than_linger() -> None:
    """Performance, batching rule: or after 5 ms."""
    clock = Clock()
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    first = asyncio.create_task(way.publish(b"1"))
    await turns()
    second = asyncio.create_task(way.publish(b"2"))
    await clock.advance(0.004)
    third = asyncio.create_task(way.publish(b"3"))
    await turns()
    assert len(sender.batches) == 1
    await clock.advance(0.0011)
    assert sender.sent == [[b"1"], [b"2", b"3"]]
    sender.gate.set()
    await asyncio.gather(first, second, third)
    await way.aclose()


async def test_what_waited_goes_at_once_when_nothing_is_out_any_more() -> None:
    """Performance, batching rule: the round trip is the linger."""
    Clock()
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    first = asyncio.create_task(way.publish(b"1"))
    await turns()
    rest = [asyncio.create_task(way.publish(b"x")) for _ in range(3)]
    await turns()
    sender.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in sender.batches] == [1, 3]
    await way.aclose()


async def test_a_linger_that_found_all_places_taken_is_not_forgotten() -> None:
    """Performance, batching rule: it goes with the first place that is free."""
    clock = Clock()
    sender = FakeSender(in_flight=2, max_messages=2)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"x")) for _ in range(4)]
    await turns()
    calls.append(asyncio.create_task(way.publish(b"late")))
    await clock.advance(0.1)
    assert [len(batch) for batch in sender.batches] == [2, 2]
    sender.gate.set()
    await asyncio.gather(*calls)
    assert sender.most_calls == 2
    await way.aclose()


async def test_a_batch_that_is_of_one_lane_waits_for_no_other_lane() -> None:
    """`SendLimits.batch_is_lane`: what cannot be joined need not wait for company."""
    Clock()
    sender = FakeSender(lane=by_key, batch_is_lane=True)
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"1", key=key)) for key in ("a", "b", "a", "b", "c")]
    await turns()
    assert sorted(len(batch) for batch in sender.batches) == [1, 2, 2]
    calls.append(asyncio.create_task(way.publish(b"2", key="a")))
    await turns()
    assert len(sender.batches) == 3
    sender.gate.set()
    await asyncio.gather(*calls)
    assert sender.clashes == []
    await way.aclose()


async def test_keys_that_each_have_one_waiting_fill_a_batch_together() -> None:
    """`SendLimits.atomic_lane` false: 50 senders with 50 keys still share calls (SQS FIFO)."""
    sender = FakeSender(lane=by_key, atomic_lane=False)
    way = publisher(sender)
    await asyncio.gather(*(way.publish(b"x", key=str(number)) for number in range(50)))
    assert [len(batch) for batch in sender.batches] == [10] * 5
    await way.aclose()


async def test_a_hot_key_does_not_keep_the_others_from_their_turn() -> None:
    """Promise 18: lanes take turns."""
    sender = FakeSender(lane=by_key, max_messages=4, in_flight=1)
    way = publisher(sender)
    calls = [way.publish(b"hot", key="hot") for _ in range(12)] + [way.publish(b"cold", key="cold")]
    await asyncio.gather(*calls)
    assert [b"cold" in batch for batch in sender.sent].index(True) == 1
    await way.aclose()


async def test_an_awaited_message_to_a_sender_that_answers_at_once_needs_no_task() -> None:
    """Rule 8 of the contract: a publish that finds nothing in flight goes out inline, without a task."""
    sender = FakeSender()
    way = publisher(sender)
    for key in (None, None, "k", "k"):
        await way.publish(b"x", key=key)
    assert [caller is asyncio.current_task() for caller in sender.callers] == [False, True, True, True]
    await asyncio.gather(way.publish(b"x"), way.publish(b"x"))
    assert sender.callers[-1] is sender.callers[0]
    await way.aclose()


async def test_an_awaited_message_to_a_sender_that_suspends_is_left_to_a_pump() -> None:
    """Promise 4: whoever gives up waiting does not cut off a call whose outcome the next of the key depends on."""

    class Slow(FakeSender):
        async def send_batch(
            self, messages: Sequence[WireMessage], deadline: float, /
        ) -> Sequence[Receipt | Error]:
            await asyncio.sleep(0)
            return await super().send_batch(messages, deadline)

    sender = Slow()
    way = publisher(sender)
    for _ in range(3):
        await way.publish(b"x")
    assert asyncio.current_task() not in sender.callers
    await way.aclose()


async def test_company_in_the_same_turn_is_waited_for() -> None:
    """Performance: an inline send would make a call for each of them."""
    sender = FakeSender()
    way = publisher(sender)
    await way.publish(b"x")
    await asyncio.gather(*(way.publish(b"x") for _ in range(10)))
    assert [len(batch) for batch in sender.batches] == [1, 10]
    await way.aclose()


async def test_a_loop_of_inline_publishes_lets_others_run() -> None:
    """Performance: yields to the loop every few dozen messages."""
    way = publisher(FakeSender())
    await way.publish(b"x")
    ran: list[int] = []

    async def other() -> None:
        ran.append(way.stats.confirmed)

    task = None
    for number in range(2 * YIELD_EVERY):
        await way.publish(b"x")
        if number == 0:
            task = asyncio.create_task(other())
            await turns(1)
    assert task is not None
    await task
    rest: list[int] = []
    asyncio.get_running_loop().call_soon(rest.append, 1)
    for _ in range(YIELD_EVERY):
        await way.publish(b"x")
    assert rest
    await way.aclose()


async def stuck_inline(
    way: Publisher[bytes], sender: FakeSender, key: str | None = None
) -> asyncio.Task[Receipt]:
    """Return a publish that is sent by its own task, to a sender that was quick until now and hangs."""
    await way.publish(b"x", key=key)
    sender.gate.clear()
    sender.entered.clear()
    call = asyncio.create_task(way.publish(b"stuck", key=key, timeout=1))
    await sender.entered.wait()
    assert sender.callers[-1] is call
    return call


async def test_an_inline_send_that_suspends_after_all_keeps_its_deadline() -> None:
    """Promise 2: never waited for beyond the deadline, whoever sends."""
    clock = Clock()
    sender = FakeSender()
    way = publisher(sender)
    call = await stuck_inline(way, sender)
    await clock.advance(1.0)
    with pytest.raises(OutcomeUnknownError):
        await call
    assert call.cancelling() == 0
    sender.gate.set()
    await way.publish(b"next")
    await way.aclose()


async def test_an_inline_send_that_is_cancelled_is_unknown_and_frees_its_lane() -> None:
    """Promise 4 and catalogue C: cancelled after dispatch; the next of the key goes out."""
    sender = FakeSender(lane=by_key)
    way = publisher(sender)
    call = await stuck_inline(way, sender, "k")
    call.cancel()
    await turns()
    assert call.cancelled()
    assert way.stats.unknown == 1
    sender.gate.set()
    await way.publish(b"next", key="k")
    assert [message.body for message in sender.stored] == [b"x", b"next"]
    assert sender.callers[-1] is not asyncio.current_task()
    await way.aclose()


async def test_who_joins_a_suspended_inline_send_is_not_cancelled_with_it() -> None:
    """Catalogue C: cancellation of one caller does not harm others."""
    sender = FakeSender(lane=by_key)
    way = publisher(sender)
    first = await stuck_inline(way, sender, "k")
    second = asyncio.create_task(way.publish(b"2", key="k"))
    await turns()
    first.cancel()
    await turns()
    sender.gate.set()
    assert isinstance(await second, Receipt)
    await way.aclose()


async def test_a_sender_that_was_seen_to_suspend_is_not_sent_to_inline_again() -> None:
    """Rule 8 of the contract: what was learnt is unlearnt."""
    sender = FakeSender()
    way = publisher(sender)
    first = await stuck_inline(way, sender)
    second = asyncio.create_task(way.publish(b"2"))
    await turns()
    assert way._batcher is not None
    assert not way._batcher._swift
    sender.gate.set()
    await asyncio.gather(first, second)
    await way.aclose()


async def test_a_cleanup_that_publishes_after_its_task_was_cancelled_can() -> None:
    """Promise 2: an old cancellation is not taken for a new one."""
    clock = Clock()
    sender = FakeSender()
    way = publisher(sender)
    await way.publish(b"x")
    sender.gate.clear()
    sender.entered.clear()
    ends: list[BaseException] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await way.publish(b"bye", timeout=1)
            except OutcomeUnknownError as error:
                ends.append(error)

    task = asyncio.create_task(work())
    await turns()
    task.cancel()
    await sender.entered.wait()
    assert sender.callers[-1] is task
    await clock.advance(1.0)
    assert ends
    assert task.cancelled()
    sender.gate.set()
    await way.aclose()


async def test_the_pumps_do_not_keep_the_context_of_the_first_caller() -> None:
    """What one request sets in its context is not seen on behalf of another."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def answer(message: object, _time: int) -> Receipt:
        seen.append(variable.get())
        return Receipt("x")

    way = publisher(FakeSender(answer=answer))
    variable.set("mine")
    await asyncio.gather(way.publish(b"1"), way.publish(b"2"))
    assert seen == ["none", "none"]
    await way.aclose()


async def test_flush_sends_what_lingers_and_returns_when_it_has_ended() -> None:
    """`flush`: no linger, and only what was accepted before."""
    Clock()
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    calls = [asyncio.create_task(way.publish(b"1"))]
    await turns()
    calls.append(asyncio.create_task(way.publish(b"2")))
    await turns()
    flushing = asyncio.create_task(way.flush())
    await turns()
    assert sender.sent == [[b"1"], [b"2"]]
    assert not flushing.done()
    sender.gate.set()
    await flushing
    await turns()
    assert all(call.done() for call in calls)
    await way.flush()
    await way.aclose()


async def test_a_cancelled_flush_leaves_the_messages_alone() -> None:
    """`flush`: it only waits."""
    sender = FakeSender()
    sender.gate.clear()
    way = publisher(sender)
    call = asyncio.create_task(way.publish(b"1"))
    await turns()
    flushing = asyncio.create_task(way.flush())
    await turns()
    flushing.cancel()
    await turns()
    assert flushing.cancelled()
    sender.gate.set()
    await call
    await way.aclose()


async def test_unordered_messages_that_wait_to_be_sent_again_are_passed_by_others() -> None:
    """Promise 4: no order is asked for, so nobody waits."""
    clock = Clock()
    sender = FakeSender(
        answer=lambda m, t: UnavailableError("x") if m.body == b"0" and t == 1 else Receipt(m.id)
    )
    way = publisher(sender)
    call = asyncio.create_task(way.publish_many([Message(body=b"0"), Message(body=b"1")]))
    await turns()
    await way.publish(b"2")
    assert [message.body for message in sender.stored] == [b"1", b"2"]
    await clock.advance(1.0)
    await call
    await way.aclose()
