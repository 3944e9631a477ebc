"""A consumer dies in the middle of a batch: all it had comes again, and none of it before its lease has ended.

Law: a witness on the line writes down who was given what, and until when; nobody's own word counts. It notes the
beginning of each call that grants a lease, so a slow machine can only make what comes again later.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from aiohttp import web

import unimsg
from tests.sqs.aws_faults import FaultProxy, operation
from tests.sqs.worlds import MINISTACK, AwsWorld
from unimsg.testing.conformance.world import consuming, eventually

COUNT = 30
HANDS = 10
LEASE = 2.0


class Lease(NamedTuple):
    """One receipt of a message: when the call was answered, and the soonest moment at which the lease can end."""

    given: float
    ends: float


class Witness(FaultProxy):
    """Sees each message go out, and each lease prolonged."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.leases: defaultdict[str, list[Lease]] = defaultdict(list)
        self.prolonged = 0
        self._message_of: dict[str, str] = {}

    async def _send(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        op, began = operation(request, body), time.monotonic()
        answer = await super()._send(request, body)
        if op == "ReceiveMessage":
            ends = began + json.loads(body)["VisibilityTimeout"]
            for message in json.loads(answer[2]).get("Messages", ()):
                self._message_of[message["ReceiptHandle"]] = message["Body"]
                self.leases[message["Body"]].append(Lease(time.monotonic(), ends))
        elif op == "ChangeMessageVisibilityBatch":
            for entry in json.loads(body)["Entries"]:
                self._prolong(entry, began)
        return answer

    def _prolong(self, entry: dict[str, Any], began: float) -> None:
        leases = self.leases[self._message_of[entry["ReceiptHandle"]]]
        leases[-1] = leases[-1]._replace(ends=began + entry["VisibilityTimeout"])
        self.prolonged += 1


@pytest.mark.parametrize("scheme", ["sqs", "sqs+fifo", "sns", "sns+fifo"])
async def test_what_a_killed_consumer_had_comes_again_after_the_lease_and_not_before(
    endpoint: str, scheme: str
) -> None:
    """SIGKILL, with messages in handlers and prefetched, their leases prolonged once; promises 1, 5, 8."""
    handled: list[str] = []

    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        handled.append(str(delivery.body))

    async with (
        Witness(endpoint) as witness,
        AwsWorld(witness.url, scheme, environment="MiniStack", deviations=MINISTACK) as world,
    ):
        destination, client = await world.destination(), await world.client()
        publisher = client.publisher(destination)
        await publisher.publish_many(unimsg.Message(body=n, key=f"k{n}") for n in range(COUNT))
        victim = await world.victim(destination, concurrency=HANDS, lease=LEASE)
        await victim.holds(HANDS)
        await eventually(lambda: len(witness.leases) == 2 * HANDS, "it has prefetched as many as it holds")
        await eventually(lambda: witness.prolonged, "the leases of what it has are prolonged")
        had = set(witness.leases)
        async with consuming(client, destination, handle, group=world.group):
            await eventually(lambda: len(handled) >= COUNT - len(had), "others get what it did not have")
            await victim.kill()
            await eventually(lambda: len(handled) == COUNT, "all it had comes again")

    assert sorted(map(int, handled)) == list(range(COUNT))
    for body in had:
        leases = witness.leases[body]
        assert len(leases) > 1
        for earlier, later in pairwise(leases):
            assert later.given >= earlier.ends, f"{body} came {earlier.ends - later.given:.3f} s too early"
