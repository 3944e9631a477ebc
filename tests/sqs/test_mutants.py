"""Mutants of the SQS backend: each is killed by the test named for it, which passes on what is not broken.

Law: a mutant fails its test by an assertion; one that makes it hang has proved nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from tests.sqs import test_faults, test_seam
from tests.sqs.aws_faults import FaultProxy, Rule
from unimsg.backends._aws import trouble
from unimsg.backends.sqs import entries
from unimsg.backends.sqs import sender as sending
from unimsg.backends.sqs.receiver import SqsReceiver
from unimsg.backends.sqs.sender import SqsSender
from unimsg.consuming.intake import Intake
from unimsg.errors import OutcomeUnknownError
from unimsg.testing.mutants import Patch

LIMIT = 20.0
"""Seconds after which a test hangs."""


class Mutant(NamedTuple):
    """One broken backend.

    Attributes:
        killed_by: the test that fails on it.
        apply: puts it in.
        scheme: the kind of queue on which that is shown.
        arguments: of the test, beside its fixtures.
    """

    killed_by: Callable[..., Any]
    apply: Callable[[Patch], None]
    scheme: str = "sqs"
    arguments: tuple[tuple[str, Any], ...] = ()


def ack_of_a_wrong_entry(patch: Patch) -> None:
    """The deletion names the message that stands beside the one that was acked."""

    async def settle(real: Any, self: Any, settlements: Any) -> Any:
        tokens = [one.token for one in settlements]
        beside = [*tokens[1:], *tokens[:1]]
        return await real(self, [replace(o, token=t) for o, t in zip(settlements, beside, strict=True)])

    patch.around(SqsReceiver, "settle_batch", settle)


def ends_by_place(patch: Patch) -> None:
    """The ends of a batch are those of its neighbours."""
    real = entries.failures
    patch.put(entries, "failures", lambda *told: [*real(*told)[1:], *real(*told)[:1]])


def lost_partial_failure(patch: Patch) -> None:
    """Whoever answers with 200 has taken all of the batch."""
    patch.put(entries, "failures", lambda _answer, count, _backend: [None] * count)


def resend_of_the_whole_batch(patch: Patch) -> None:
    """After a failure of some entries all are sent once more."""

    async def send(real: Any, self: Any, messages: Any, deadline: float) -> Any:
        ends = await real(self, messages, deadline)
        if any(isinstance(end, Exception) for end in ends):
            await real(self, messages, deadline)
        return ends

    patch.around(SqsSender, "send_batch", send)


def lease_not_extended(patch: Patch) -> None:
    """Extending is confirmed and not done."""

    async def extend(_real: Any, _self: Any, tokens: Any, _seconds: float) -> Any:
        return [None] * len(tokens)

    patch.around(SqsReceiver, "extend_batch", extend)


def cancelled_poll(patch: Patch) -> None:
    """A stop does not wait for the last poll."""

    async def stop(_real: Any, self: Any) -> None:
        await self.abort()

    patch.around(Intake, "stop", stop)


def group_not_held(patch: Patch) -> None:
    """A call holds many messages of a group, so that the next overtake one that fails."""
    real = sending.send_limits
    patch.put(sending, "send_limits", lambda *told, **more: replace(real(*told, **more), atomic_lane=True))


def unknown_called_failed(patch: Patch) -> None:
    """A connection that broke is taken for one that never came about."""
    real = trouble.never_left
    patch.put(trouble, "never_left", lambda error: isinstance(error, trouble.BROKEN) or real(error))


RESET = (
    ("rule", lambda: Rule("drop", when="after", reset=True)),
    ("end", lambda: OutcomeUnknownError),
    ("ran", lambda: True),
)
MUTANTS = [
    Mutant(test_seam.test_an_ack_ends_its_own_message_only, ack_of_a_wrong_entry),
    Mutant(test_faults.test_settling_names_the_entry_that_failed, ends_by_place),
    Mutant(test_faults.test_a_part_that_failed_is_told_entry_by_entry, ends_by_place),
    Mutant(test_faults.test_a_part_that_failed_is_told_entry_by_entry, lost_partial_failure),
    Mutant(test_faults.test_a_part_that_failed_is_told_entry_by_entry, resend_of_the_whole_batch),
    Mutant(test_seam.test_a_lease_that_was_extended_holds, lease_not_extended),
    Mutant(test_seam.test_a_stop_leaves_no_poll_open, cancelled_poll),
    Mutant(test_seam.test_a_group_waits_for_its_entry_that_failed, group_not_held, "sqs+fifo"),
    Mutant(test_faults.test_each_end_is_the_true_one, unknown_called_failed, arguments=RESET),
]


@pytest.mark.parametrize("transport", ["lean"])
@pytest.mark.parametrize(
    ("mutant", "scheme"),
    [
        pytest.param(mutant, mutant.scheme, id=f"{mutant.apply.__name__}-{mutant.killed_by.__name__}")
        for mutant in MUTANTS
    ],
)
async def test_each_mutant_is_killed_by_the_test_named_for_it(
    mutant: Mutant, url: str, make_queue: Any, proxy: FaultProxy
) -> None:
    """M: the control passes, the mutant fails an assertion."""
    await _run(mutant, url, await make_queue(), proxy)
    patch = Patch()
    mutant.apply(patch)
    try:
        with pytest.raises(AssertionError):
            await _run(mutant, url, await make_queue(), proxy)
    finally:
        patch.undo()


async def _run(mutant: Mutant, url: str, queue: str, proxy: FaultProxy) -> None:
    known = {"url": url, "queue": queue, "proxy": proxy}
    given = {name: known[name] for name in inspect.signature(mutant.killed_by).parameters if name in known}
    given |= {name: make() for name, make in mutant.arguments}
    proxy.rules = []
    async with asyncio.timeout(LIMIT):
        await mutant.killed_by(**given)
