"""Backends that break their contract: methods of the seam, replaced on a backend that keeps it.

Law: each breaks one thing; what it does not touch works as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from msgspec.structs import replace

from unimsg.backends.memory.backend import MemoryReceiver, MemorySender
from unimsg.backends.sqlite.backend import SqliteBackend
from unimsg.message import Receipt
from unimsg.testing.mutants.mutant import Patch, mutant


@mutant(4, killed_by="test_one_consumer_handles_each_key_in_order")
def reorder(patch: Patch) -> None:
    """Every batch comes backwards."""

    async def receive(real: Any, self: Any, *args: Any) -> Any:
        return list(reversed(await real(self, *args)))

    patch.around(MemoryReceiver, "receive_batch", receive)


@mutant(1, killed_by="test_fifty_consumers_share_the_work")
def drop(patch: Patch) -> None:
    """Each seventh message is confirmed and not stored."""
    numbers = count(1)

    async def send(real: Any, self: Any, messages: Sequence[Any], deadline: float) -> Any:
        kept = [message for message in messages if next(numbers) % 7]
        receipts = {receipt.id: receipt for receipt in await real(self, kept, deadline)}
        return [receipts.get(message.id, Receipt(id=message.id)) for message in messages]

    patch.around(MemorySender, "send_batch", send)


@mutant(1, killed_by="test_what_is_published_is_received_once")
def duplicate(patch: Patch) -> None:
    """Everything is stored twice, under two ids."""

    async def send(real: Any, self: Any, messages: Sequence[Any], deadline: float) -> Any:
        await real(self, [replace(message, id=f"{message.id}-again") for message in messages], deadline)
        return await real(self, messages, deadline)

    patch.around(MemorySender, "send_batch", send)


@mutant(9, killed_by="test_a_failed_message_comes_again_as_the_next_attempt")
def never_redeliver(patch: Patch) -> None:
    """What should come again is settled for good."""
    _settling(patch, lambda settlement: replace(settlement, verb="ack"))


@mutant(5, 17, killed_by="test_acks_in_the_buffer_are_flushed")
def lying_ack(patch: Patch) -> None:
    """An ack is confirmed and forgotten."""

    async def settle(real: Any, self: Any, settlements: Sequence[Any]) -> Any:
        rest = [settlement for settlement in settlements if settlement.verb != "ack"]
        results = iter(await real(self, rest) if rest else ())
        return [None if settlement.verb == "ack" else next(results) for settlement in settlements]

    patch.around(MemoryReceiver, "settle_batch", settle)


@mutant(9, 11, killed_by="test_a_delayed_fail_does_not_come_early")
def ignored_delay(patch: Patch) -> None:
    """What is to wait comes at once."""
    _settling(patch, lambda settlement: replace(settlement, delay=0.0))


@mutant(killed_by="test_a_hundred_clients_leave_no_task_thread_or_file_behind", scheme="sqlite")
def swallowed_close(patch: Patch) -> None:
    """Closing says that it is done, and leaves everything open."""

    async def close(_real: Any, _self: Any) -> None:
        pass

    patch.around(SqliteBackend, "aclose", close)


@mutant(2, killed_by="test_many_are_each_confirmed_in_the_order_given")
def wrong_partial_result(patch: Patch) -> None:
    """The results of a batch are those of its neighbours."""

    async def send(real: Any, self: Any, messages: Sequence[Any], deadline: float) -> Any:
        results = await real(self, messages, deadline)
        return [*results[1:], *results[:1]]

    patch.around(MemorySender, "send_batch", send)


@mutant(8, killed_by="test_a_lease_is_kept_while_a_handler_runs")
def broken_lease(patch: Patch) -> None:
    """Extending a lease is confirmed and not done."""

    async def extend(_real: Any, _self: Any, tokens: Sequence[Any], _seconds: float) -> Any:
        return [None] * len(tokens)

    patch.around(MemoryReceiver, "extend_batch", extend)


@mutant(10, killed_by="test_the_attempt_is_right_on_every_redelivery")
def forgotten_attempts(patch: Patch) -> None:
    """Every delivery is said to be the first."""

    async def receive(real: Any, self: Any, *args: Any) -> Any:
        return [replace(received, attempts=0) for received in await real(self, *args)]

    patch.around(MemoryReceiver, "receive_batch", receive)


@mutant(20, killed_by="test_a_trace_passes_through_unchanged")
def lost_headers(patch: Patch) -> None:
    """Headers are not carried."""

    async def send(real: Any, self: Any, messages: Sequence[Any], deadline: float) -> Any:
        return await real(self, [replace(message, headers={}) for message in messages], deadline)

    patch.around(MemorySender, "send_batch", send)


@mutant(3, killed_by="test_id_timestamp_attempt_and_key_are_there")
def lost_id(patch: Patch) -> None:
    """The id of a message is not carried."""

    async def receive(real: Any, self: Any, *args: Any) -> Any:
        batch = await real(self, *args)
        return [replace(received, message=replace(received.message, id=None)) for received in batch]

    patch.around(MemoryReceiver, "receive_batch", receive)


def _settling(patch: Patch, change: Any) -> None:
    async def settle(real: Any, self: Any, settlements: Sequence[Any]) -> Any:
        return await real(self, [change(settlement) for settlement in settlements])

    patch.around(MemoryReceiver, "settle_batch", settle)
