"""Bad input: each row of `tests/bad_input.py` is done, in an empty folder and against an empty broker.

Law: the error is exactly the one of the table; afterwards the broker, the folder, the tasks and the log are looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.bad_handlers import RETURNED, Returned
from tests.bad_input import ROWS, SECRET, Row, empty_folder, refusal
from unimsg.client import Client, connect
from unimsg.consuming.dead_letter import read
from unimsg.policies.retry import RetryPolicy
from unimsg.router import Router


def stored(client: Client) -> dict[str, int]:
    """How many messages each destination of a `memory://` has; empty ones left out."""
    hubs: Mapping[str, Any] = client.backend._broker._hubs  # type: ignore[attr-defined]  # the broker itself
    return {name: hub.log.next for name, hub in hubs.items() if hub.log.next}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what.replace(SECRET, "…")[:80])
async def test_it_is_refused_and_nothing_is_half_done(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """Exactly this class, a sentence that says what to do; nothing published, no file, no task, no secret."""
    before = asyncio.all_tasks()
    caplog.set_level(logging.DEBUG)
    with empty_folder() as folder:
        async with connect("memory://") as client:
            error = await refusal(row, client)
            left = stored(client)
        files = list(folder.rglob("*"))

    assert type(error) is row.error, repr(error)
    assert row.says in str(error)
    assert left == {}
    assert files == []
    assert asyncio.all_tasks() == before
    assert SECRET not in " ".join([*chain(error), caplog.text])


def chain(error: BaseException) -> Iterator[str]:
    """An error and what it was raised from, as it would be shown."""
    shown_next: BaseException | None = error
    while shown_next is not None:
        yield str(shown_next)
        yield repr(shown_next)
        shown_next = shown_next.__cause__ or (
            None if shown_next.__suppress_context__ else shown_next.__context__
        )


@pytest.mark.parametrize("case", RETURNED, ids=lambda case: case.what)
async def test_a_handler_that_does_it_wrong_loses_nothing(case: Returned) -> None:
    """The message goes to the dead letters at once, with the reason, and nothing else was published."""
    router = Router()
    router.on("orders", group="g", dead_letter="dead", retry=RetryPolicy(give_up_on=KeyError))(case.handler)
    async with connect("memory://") as client:
        receipt = await client.publish("orders", {"id": 7}, key="ann")
        (health,) = await router.run_until_idle(client)
        assert stored(client) == {"orders": 1, "dead": 1}
        letters = client.subscriber("dead", group="operator")
        async for letter in letters:
            async with letter:
                info = read(letter.headers)
            break

    assert health.counters["dead_lettered"] == 1
    assert info is not None
    assert case.says in info.reason
    assert (letter.id, letter.key, letter.body) == (receipt.id, "ann", {"id": 7})


def test_the_table_is_long_and_says_each_thing_once() -> None:
    """At least sixty rows; and each says more than that it is refused."""
    whats = [row.what for row in ROWS]
    assert len(ROWS) >= 60
    assert len(whats) == len(set(whats))
    assert [row.what for row in ROWS if len(row.says) < 12] == []
