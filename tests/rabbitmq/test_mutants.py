"""Mutants of the RabbitMQ backend: each is killed by the test named for it, which passes on what is not broken.

Law: a mutant fails its test by an assertion; one that makes it hang has proved nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from tests.rabbitmq import conftest, test_seam
from tests.unit.backends.rabbitmq import test_acks, test_confirms
from unimsg.backends.rabbitmq import ladder
from unimsg.backends.rabbitmq.acks import Acks
from unimsg.backends.rabbitmq.confirms import Confirms
from unimsg.backends.rabbitmq.outlet import Outlet
from unimsg.backends.rabbitmq.receiver import RabbitReceiver
from unimsg.message import Receipt
from unimsg.testing.mutants import Patch

LIMIT = 20.0
"""Seconds after which a test hangs."""
SHORT = 3.0
"""Patience with a mutant: what does not come about is known not to."""


class Mutant(NamedTuple):
    """One broken backend."""

    killed_by: Callable[..., Any]
    apply: Callable[[Patch], None]
    arguments: Sequence[Any] = ()


def ack_over_a_gap(patch: Patch) -> None:
    """One frame acks everything up to the highest tag that is done."""

    def done(real: Any, acks: Any, tags: Any) -> Any:
        frames = real(acks, tags)
        return [(max(tag for tag, _ in frames), True)] if frames else []

    patch.around(Acks, "done", done)


def ack_of_another_channel(patch: Patch) -> None:
    """A tag is taken for what it is on the channel that is open now."""
    patch.put(RabbitReceiver, "_is_ours", lambda self, settlement: settlement.token in self._acks)


def nack_as_retry(patch: Patch) -> None:
    """What failed is handed back to the server, which gives it out at once and knows of no failure."""

    async def retry(_real: Any, self: Any, settlements: Any, retries: Any, _results: Any) -> None:
        for at in retries:
            self._give_back(settlements[at].token)

    patch.around(RabbitReceiver, "_retry", retry)


def ack_before_the_copy(patch: Patch) -> None:
    """A copy that waits for its retry counts as stored, whatever the server says."""

    async def send(real: Any, self: Any, parcels: Any, deadline: float) -> Any:
        if self._exchange != ladder.EXCHANGE:
            return await real(self, parcels, deadline)
        return [Receipt(None)] * len(parcels)

    patch.around(Outlet, "send", send)


def confirm_counted_twice(patch: Patch) -> None:
    """What was confirmed is not forgotten, so that the same confirm ends another message of the batch too."""

    def confirmed(real: Any, confirms: Any, tag: int, **told: Any) -> None:
        slot = confirms._open.get(tag)
        real(confirms, tag, **told)
        if slot is not None:
            confirms._open[tag] = slot

    patch.around(Confirms, "confirmed", confirmed)


def lost_return(patch: Patch) -> None:
    """What the server sends back is not looked at; it confirms the message all the same."""
    patch.put(Confirms, "returned", lambda _self, _name, _reason: None)


def lost_means_refused(patch: Patch) -> None:
    """What was in flight when the channel ended is called refused."""

    def lost(_real: Any, confirms: Any, why: str, refusal: Any = None) -> None:
        for slot in list(confirms._open.values()):
            slot.batch.settle(slot.at, refusal or confirms._refused())

    patch.around(Confirms, "lost", lost)


MUTANTS = [
    Mutant(test_seam.test_what_was_not_acked_comes_again, ack_over_a_gap),
    Mutant(
        test_acks.test_multiple_covers_a_prefix_without_a_gap,
        ack_over_a_gap,
        ([1, 2, 4], [(2, True), (4, False)]),
    ),
    Mutant(test_seam.test_an_ack_is_good_on_the_channel_that_delivered_only, ack_of_another_channel),
    Mutant(test_seam.test_a_retry_waits_and_is_counted, nack_as_retry),
    Mutant(test_seam.test_a_retry_waits_and_is_counted, ack_before_the_copy),
    Mutant(test_confirms.test_a_confirm_that_is_said_twice_counts_once, confirm_counted_twice),
    Mutant(test_confirms.test_what_comes_back_is_unroutable_though_it_is_confirmed, lost_return),
    Mutant(test_seam.test_each_of_a_batch_has_its_own_end, lost_return),
    Mutant(test_confirms.test_when_the_channel_ends_what_is_in_flight_is_unknown, lost_means_refused),
]


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=lambda mutant: f"{mutant.apply.__name__}-{mutant.killed_by.__name__}"
)
async def test_each_mutant_is_killed_by_the_test_named_for_it(mutant: Mutant, url: str) -> None:
    """M: the control passes, the mutant fails an assertion."""
    await _run(mutant, url)
    patch = Patch()
    mutant.apply(patch)
    patch.put(conftest, "PATIENCE", SHORT)
    try:
        with pytest.raises(AssertionError):
            await _run(mutant, url)
    finally:
        patch.undo()


async def _run(mutant: Mutant, url: str) -> None:
    given = (url,) if "url" in inspect.signature(mutant.killed_by).parameters else mutant.arguments
    async with asyncio.timeout(LIMIT):
        ended = mutant.killed_by(*given)
        if inspect.isawaitable(ended):
            await ended
