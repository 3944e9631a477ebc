"""What a channel of RabbitMQ is told and what it makes of it, through the contract and without the core.

Law: one thing that is easily got wrong a test, on a real broker; `test_mutants` gets each of them wrong.
"""

from __future__ import annotations

import time

from tests.rabbitmq.conftest import bare, rest, take
from unimsg.errors import AssignmentLostError, UnroutableError
from unimsg.message import Message, Receipt
from unimsg.spi import Settlement


async def test_what_was_not_acked_comes_again(url: str) -> None:
    """Promise 5: one ack for many frames never covers the one in their middle that is still out."""
    async with bare(url) as there:
        await there.fill("a", "b", "c", "d", "e")
        receiver = await there.receiver()
        batch = await take(receiver, 5)
        open_still = batch.pop(1)

        assert not any(await receiver.settle_batch([Settlement("ack", r.token, r.assignment) for r in batch]))
        await receiver.aclose()

        assert await rest(await there.receiver()) == [(open_still.message.body or b"").decode()]


async def test_an_ack_is_good_on_the_channel_that_delivered_only(url: str) -> None:
    """Rule 5: tags begin again with each channel, so a late ack would ack another message."""
    async with bare(url) as there:
        await there.fill("a")
        first = await there.receiver()
        (late,) = await take(first, 1)
        await first.aclose()
        second = await there.receiver()
        (again,) = await take(second, 1)
        assert late.token == again.token

        (error,) = await second.settle_batch([Settlement("ack", late.token, late.assignment)])
        await second.aclose()

        assert type(error) is AssignmentLostError
        assert await rest(await there.receiver()) == ["a"]


async def test_a_retry_waits_and_is_counted(url: str) -> None:
    """Promises 9 to 11: it is not there before its time, and knows what it has behind it."""
    async with bare(url) as there:
        await there.fill("a")
        receiver = await there.receiver()
        (failed,) = await take(receiver, 1)
        due = time.monotonic() + 1.0

        given = Settlement("retry", failed.token, failed.assignment, 1.0, executions=3, first_failed=17.25)
        assert await receiver.settle_batch([given]) == [None]
        (again,) = await take(receiver, 1)

        assert time.monotonic() >= due
        assert (again.attempts, again.deliveries, again.first_failed) == (3, 2, 17.25)
        assert (again.message.id, again.message.body) == ("a", b"a")


async def test_what_is_given_back_comes_at_once_and_counts_no_execution(url: str) -> None:
    """Promise 17: the server counts the delivery, nobody an execution."""
    async with bare(url) as there:
        await there.fill("a")
        receiver = await there.receiver()
        (taken,) = await take(receiver, 1)

        assert await receiver.settle_batch([Settlement("release", taken.token, taken.assignment)]) == [None]
        (again,) = await take(receiver, 1)

        assert (again.attempts, again.deliveries) == (None, 2)


async def test_each_of_a_batch_has_its_own_end(url: str) -> None:
    """Promise 2: what no queue takes is unroutable, though the server confirms it; its neighbours are stored."""
    async with bare(url, exchange="direct") as there:
        sender = await there.backend.open_sender(there.destination)
        try:
            batch = [Message[bytes | None](body=b"", id=key, key=key) for key in ("", "b", "", "d", "")]
            results = await sender.send_batch(batch, time.monotonic() + 10)
        finally:
            await sender.aclose()

        ends = [type(result) for result in results]
        assert ends == [Receipt, UnroutableError, Receipt, UnroutableError, Receipt]
        assert len(await take(await there.receiver(), 3)) == 3
