"""Mutants of the ActiveMQ backend: each is killed by the test named for it.

Law: a mutant fails its test by an assertion; one that makes it hang has proved nothing. The tests themselves are the
control.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.unit.backends import test_activemq
from tests.unit.backends.test_activemq import Played
from unimsg.backends.activemq import receiver, wire
from unimsg.backends.activemq.backend import ActiveMQBackend
from unimsg.backends.activemq.connection import Answers, Connection
from unimsg.backends.activemq.receiver import ActiveMQReceiver
from unimsg.backends.activemq.sender import ActiveMQSender
from unimsg.backends.activemq.stomp import encode
from unimsg.message import Receipt
from unimsg.testing.mutants import Patch

played = test_activemq.played
backend = test_activemq.backend

LIMIT = 5.0
"""Seconds after which a test hangs."""


class Mutant(NamedTuple):
    """One broken backend."""

    apply: Callable[[Patch], None]
    killed_by: Callable[..., Any]


def ack_on_a_new_connection(patch: Patch) -> None:
    """What an earlier connection delivered is acked on the one that is open now."""

    def refused(real: Any, self: Any, settlement: Any) -> Any:
        return None if self._assignment.live else real(self, settlement)

    patch.around(ActiveMQReceiver, "_refused", refused)


def nack_as_retry(patch: Patch) -> None:
    """What failed is handed back to the broker, which dead-letters it at once."""

    def again(_real: Any, self: Any, settlement: Any, receipt: str) -> bytes:
        return encode("NACK", {"id": settlement.token.headers["ack"], "receipt": receipt})

    patch.around(ActiveMQReceiver, "_again", again)


def copy_in_a_transaction(patch: Patch) -> None:
    """The broker schedules it after it has committed the ack."""
    patch.around(wire, "copy", lambda real, *given: [*real(*given), "transaction:t"])


def ack_before_the_copy(patch: Patch) -> None:
    """A copy counts as stored as soon as it is written."""

    async def copy(_real: Any, self: Any, settlements: Any) -> Any:
        for settlement in settlements:
            await self._connection.write(self._again(settlement, "r"))
        return [None] * len(settlements)

    patch.around(ActiveMQReceiver, "_copy", copy)


def refused_copy_is_a_copy(patch: Patch) -> None:
    """The broker said no, and the original is acked all the same."""

    async def copy(real: Any, self: Any, settlements: Any) -> Any:
        await real(self, settlements)
        return [None] * len(settlements)

    patch.around(ActiveMQReceiver, "_copy", copy)


def receipt_counted_twice(patch: Patch) -> None:
    """A receipt that is said again ends another message of the batch."""

    def answered(_real: Any, self: Any, receipt: str, error: Any) -> None:
        found = self._waiting.get(receipt)
        if found is not None:
            found[0].set(found[1], error)

    def settle(real: Any, self: Any, index: int, error: Any) -> None:
        real(self, index if index in self.open else min(self.open, default=index), error)

    patch.around(Connection, "_answered", answered)
    patch.around(Answers, "set", settle)


def error_names_nothing(patch: Patch) -> None:
    """An ERROR ends the connection, and the send that it refuses is unknown like the others."""

    def refused(real: Any, self: Any, frame: Any) -> None:
        frame.headers.pop("receipt-id", None)
        real(self, frame)

    patch.around(Connection, "_refused", refused)


def confirmed_before_the_commit(patch: Patch) -> None:
    """A transaction counts as stored when it is written."""

    async def together(_real: Any, self: Any, connection: Any, messages: Any, _deadline: Any) -> Any:
        await connection.write(encode("BEGIN", {"transaction": "t"}))
        for message in messages:
            await connection.write(self._frame(message, "transaction:t"))
        await connection.write(encode("COMMIT", {"transaction": "t", "receipt": "r"}))
        return [Receipt(message.id) for message in messages]

    patch.around(ActiveMQSender, "_together", together)


def cut_means_refused(patch: Patch) -> None:
    """What was under way when the connection ended is called not sent."""

    def end(real: Any, self: Any, connection: Any, _written: bool) -> Any:
        return real(self, connection, False)

    patch.around(ActiveMQSender, "_unsent_or_unknown", end)


MUTANTS = [
    Mutant(ack_on_a_new_connection, test_activemq.test_nothing_is_acked_on_another_connection),
    Mutant(nack_as_retry, test_activemq.test_a_retry_is_a_confirmed_copy_and_then_an_ack),
    Mutant(copy_in_a_transaction, test_activemq.test_a_retry_is_a_confirmed_copy_and_then_an_ack),
    Mutant(ack_before_the_copy, test_activemq.test_a_retry_is_a_confirmed_copy_and_then_an_ack),
    Mutant(refused_copy_is_a_copy, test_activemq.test_a_copy_that_is_refused_leaves_the_original),
    Mutant(receipt_counted_twice, test_activemq.test_a_receipt_counts_once_and_for_its_own_message),
    Mutant(error_names_nothing, test_activemq.test_an_error_fails_the_send_that_it_names),
    Mutant(confirmed_before_the_commit, test_activemq.test_several_messages_are_one_transaction),
    Mutant(
        cut_means_refused,
        test_activemq.test_a_transaction_that_is_cut_is_unknown_and_the_next_call_connects_again,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.apply.__name__)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_each_mutant_is_killed_by_the_test_named_for_it(
    mutant: Mutant, backend: ActiveMQBackend, played: Played
) -> None:
    """M: it fails an assertion."""
    given: dict[str, Any] = {"backend": backend, "played": played}
    if "sending" in inspect.signature(mutant.killed_by).parameters:
        given["sending"] = await backend.open_sender("d"), await played.peers.get()
    wanted = inspect.signature(mutant.killed_by).parameters
    patch = Patch()
    mutant.apply(patch)
    patch.put(receiver, "SETTLING", 0.2)
    try:
        async with asyncio.timeout(LIMIT):
            with pytest.raises(AssertionError):
                await mutant.killed_by(**{name: given[name] for name in wanted})
    finally:
        patch.undo()
        await backend.aclose()
