"""Confirms by table: one outcome for each message, whatever the server says and in which order.

Law: no channel; the ledger is told what a server would say.
"""

from __future__ import annotations

import random

import pytest

from unimsg.backends.rabbitmq.confirms import Batch, Confirms
from unimsg.errors import OutcomeUnknownError, RejectedError, UnavailableError, UnroutableError
from unimsg.message import Receipt


def sent(confirms: Confirms, *ids: str | None) -> tuple[Batch, list[tuple[str | None, int]]]:
    """Publish a batch; returns it and the names that are on the wire."""
    batch, names = Batch(len(ids)), []
    for at, message_id in enumerate(ids):
        name = confirms.name(message_id)
        confirms.sent(batch, at, name)
        names.append(name)
    return batch, names


def kinds(batch: Batch) -> list[str]:
    return [type(outcome).__name__ for outcome in batch.results()]


async def test_each_is_confirmed_in_its_place() -> None:
    """Promise 2: whatever comes first."""
    confirms = Confirms("orders")
    batch, _ = sent(confirms, "a", "b", "c")

    for tag in (3, 1, 2):
        assert not batch.settled.done()
        confirms.confirmed(tag, multiple=False, accepted=True)

    assert batch.settled.done()
    assert batch.results() == [Receipt("a"), Receipt("b"), Receipt("c")]
    assert len(confirms) == 0


async def test_a_confirm_that_is_said_twice_counts_once() -> None:
    """Promise 2: else a batch would end before all of it is confirmed."""
    confirms = Confirms("orders")
    batch, _ = sent(confirms, "a", "b")

    confirms.confirmed(1, multiple=False, accepted=True)
    confirms.confirmed(1, multiple=False, accepted=True)
    confirms.confirmed(1, multiple=True, accepted=True)

    assert not batch.settled.done()
    assert kinds(batch) == ["Receipt", "OutcomeUnknownError"]


async def test_multiple_confirms_everything_up_to_it_over_batches() -> None:
    """And nothing behind it."""
    confirms = Confirms("orders")
    first, _ = sent(confirms, "a", "b")
    second, _ = sent(confirms, "c", "d")

    confirms.confirmed(3, multiple=True, accepted=True)

    assert first.settled.done()
    assert not second.settled.done()
    assert kinds(second) == ["Receipt", "OutcomeUnknownError"]


async def test_a_refusal_is_no_confirm() -> None:
    """Promise 2: a full queue (`reject-publish`) refuses one and takes the next."""
    confirms = Confirms("orders")
    batch, _ = sent(confirms, "a", "b")

    confirms.confirmed(1, multiple=False, accepted=False)
    confirms.confirmed(2, multiple=False, accepted=True)

    assert isinstance(batch.outcomes[0], UnavailableError)
    assert batch.outcomes[1] == Receipt("b")


async def test_what_comes_back_is_unroutable_though_it_is_confirmed() -> None:
    """Promise 2: the server confirms it all the same; a lost return would be a lost message."""
    confirms = Confirms("orders")
    batch, names = sent(confirms, "a", "b")

    confirms.returned(names[1], "NO_ROUTE")
    confirms.confirmed(2, multiple=True, accepted=True)

    assert batch.outcomes[0] == Receipt("a")
    assert isinstance(batch.outcomes[1], UnroutableError)


async def test_a_return_hits_the_right_one_of_two_with_one_id() -> None:
    """A program may publish an id twice: the first is stored, the second comes back."""
    confirms = Confirms("orders")
    batch, names = sent(confirms, "same", "same", None, None)
    assert len(set(names)) == 4

    confirms.returned(names[1], "NO_ROUTE")
    confirms.returned(names[3], "NO_ROUTE")
    confirms.confirmed(4, multiple=True, accepted=True)

    assert kinds(batch) == ["Receipt", "UnroutableError", "Receipt", "UnroutableError"]


async def test_when_the_channel_ends_what_is_in_flight_is_unknown() -> None:
    """Promise 2: but not what was confirmed before, nor what had come back."""
    confirms = Confirms("orders")
    batch, names = sent(confirms, "a", "b", "c")
    confirms.confirmed(1, multiple=False, accepted=True)
    confirms.returned(names[1], "NO_ROUTE")

    confirms.lost("gone")
    confirms.confirmed(3, multiple=True, accepted=True)

    assert batch.settled.done()
    assert [type(outcome) for outcome in batch.outcomes] == [Receipt, UnroutableError, OutcomeUnknownError]


@pytest.mark.parametrize(("in_flight", "ends"), [(1, ["RejectedError"]), (2, ["OutcomeUnknownError"] * 2)])
async def test_a_refusal_that_names_no_message_is_certain_for_one_alone(
    in_flight: int, ends: list[str]
) -> None:
    """Promise 2: a channel that ends for a lack of rights or for a size does not say for which message."""
    confirms = Confirms("orders")
    batch, _ = sent(confirms, *map(str, range(in_flight)))

    confirms.lost("gone", RejectedError("not allowed"))

    assert kinds(batch) == ends


@pytest.mark.parametrize("seed", range(20))
async def test_by_chance(seed: int) -> None:
    """Any order of single and multiple confirms, some said twice: each message is confirmed once."""
    chance, confirms = random.Random(seed), Confirms("orders")
    batches = [sent(confirms, *(f"{number}-{at}" for at in range(7)))[0] for number in range(10)]
    tags = list(range(1, 71))
    chance.shuffle(tags)

    for tag in tags + tags[:20]:
        confirms.confirmed(tag, multiple=chance.random() < 0.1, accepted=True)

    assert all(batch.settled.done() for batch in batches)
    assert all(isinstance(outcome, Receipt) for batch in batches for outcome in batch.outcomes)
