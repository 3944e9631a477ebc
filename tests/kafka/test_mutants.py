"""Mutants of the Kafka backend: each is killed by the test named for it, which passes on what is not broken.

Law: a mutant fails its test by an assertion; one that makes it hang has proved nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.kafka import test_clients, test_consume, test_publish
from tests.kafka.conftest import MakeTopic
from unimsg.backends.kafka import trouble, wire
from unimsg.backends.kafka.clients import Clients
from unimsg.backends.kafka.member import Member
from unimsg.backends.kafka.receiver import KafkaReceiver
from unimsg.consuming.subscriber import Subscriber
from unimsg.testing.conformance import world
from unimsg.testing.conformance.world import eventually
from unimsg.testing.mutants import Patch

SHORT = 3.0
"""Patience with a mutant: what does not come about is known not to."""


class Mutant(NamedTuple):
    """One broken backend."""

    killed_by: Callable[..., Any]
    apply: Callable[[Patch], None]


def commit_ahead(patch: Patch) -> None:
    """What was fetched is committed, done or not."""

    async def committed(real: Any, receiver: Any, offsets: Any) -> Any:
        return await real(receiver, {part: await receiver._consumer.position(part) for part in offsets})

    patch.around(KafkaReceiver, "_committed", committed)


def commit_of_a_share_that_was_taken(patch: Patch) -> None:
    """Whatever was held once is taken for held."""
    patch.put(Member, "owns", lambda _self, _assignment: True)


def pause_that_is_ignored(patch: Patch) -> None:
    """A full lane does not stop its partition."""
    patch.put(KafkaReceiver, "pause", lambda _self, _assignments: None)


def partition_that_is_not_javas(patch: Patch) -> None:
    """Each key has a partition, and it is another one."""

    def placing(partitions: int) -> Any:
        return lambda key: ((wire.murmur2(key.encode()) + 1) % partitions, key.encode())

    patch.put(wire, "placing", placing)


def producer_that_stays(patch: Patch) -> None:
    """A batch that came after a refused one is refused for good, too."""
    patch.put(trouble, "ENDS", [row for row in trouble.ENDS if row[0] is not trouble.RENEW])


def client_that_is_forgotten(patch: Patch) -> None:
    """What was started, and not opened in the end, is left as it is; the test is over when somebody looks after it."""

    def drop(real: Any, clients: Clients, client: Any, *_: float) -> None:
        asyncio.get_running_loop().call_later(SHORT, real, clients, client)

    patch.around(Clients, "drop", drop)


MUTANTS = [
    Mutant(test_consume.test_only_what_is_done_without_a_gap_is_committed, commit_ahead),
    Mutant(test_consume.test_a_late_commit_is_fenced, commit_of_a_share_that_was_taken),
    Mutant(test_consume.test_a_hot_key_does_not_starve_another_partition, pause_that_is_ignored),
    Mutant(test_publish.test_a_key_has_the_partition_that_java_gives_it, partition_that_is_not_javas),
    Mutant(test_publish.test_a_producer_that_a_refused_batch_has_spoilt_is_replaced, producer_that_stays),
    Mutant(test_clients.test_a_cancelled_open_leaves_nothing_behind, client_that_is_forgotten),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.apply.__name__)
async def test_each_mutant_is_killed_by_the_test_named_for_it(
    mutant: Mutant, url: str, topic: MakeTopic, group: str
) -> None:
    """M: the control passes, the mutant fails an assertion."""
    given = {"url": url, "topic": topic, "group": group}
    given = {name: given[name] for name in inspect.signature(mutant.killed_by).parameters}
    await mutant.killed_by(**given)
    before, patch = asyncio.all_tasks(), Patch()
    mutant.apply(patch)
    patch.put(world, "PATIENCE", SHORT)
    close = Subscriber.aclose
    patch.put(Subscriber, "aclose", lambda self, drain=0.0: close(self, drain))
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            await mutant.killed_by(**given)
    finally:
        patch.undo()
    await eventually(lambda: asyncio.all_tasks() <= before, "what the mutant left behind has ended")
