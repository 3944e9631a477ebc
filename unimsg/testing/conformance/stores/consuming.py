"""Consuming: brokers for the cases that need a loop: both embedded ones, and three kinds of services.

Law: the public API, with the store's rows looked at through the contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from unimsg.client import Client, connect
from unimsg.consuming.delivery import Delivery
from unimsg.idempotency.store import Grip, Store
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Topology
from unimsg.testing.conformance.stores.begin import OnStore
from unimsg.testing.shapes import installed

FAST = RetryPolicy(max_attempts=3, initial=0.01, max=0.02, jitter="none")
BOTH = ("memory", "sqlite")
ALL = (*BOTH, "loglike", "fifolike", "pushlike")
SCOPE = "billing/job"
"""What rows are under: the group, and the scope given below."""


def scope_of(client: Client) -> str:
    """The same, where there are no groups."""
    return SCOPE if client.capabilities.groups else "/job"


def key_of(delivery: Delivery[Any]) -> str:
    """The key of these tests."""
    return str(delivery.body["k"])


class Consuming(OnStore):
    """A client, and a way to run a handler until nothing is left."""

    @pytest.fixture(params=BOTH)
    async def client(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
        """A broker of its own for each test; it does not recognise duplicates itself."""
        scheme = request.param
        where = f"/{tmp_path}/messages.db" if scheme == "sqlite" else uuid4().hex
        with installed():
            url = f"{scheme}://{where}" + ("?dedup=0s" if scheme in BOTH else "")
            async with connect(url) as client:
                for destination in ("orders", "dead"):
                    if scheme == "pushlike":
                        await client.provision(Topology(destination=destination, groups=["billing"]))
                yield client

    async def consume(self, client: Client, handler: Any, **settings: Any) -> dict[str, int]:
        """Run a handler until nothing is left, and return the counters."""
        group = "billing" if client.capabilities.groups else None
        given = {"group": group, "retry": FAST, "dead_letter": "dead", **settings}
        health = await client.subscriber("orders", **given).run_until_idle(handler)
        return dict(health.counters)

    async def peek(self, store: Store, key: str) -> int | None:
        """Attempts of a row that nobody has; looking changes nothing."""
        answer = await self.ask(store, key, scope=SCOPE)
        if answer.state != "acquired":
            return None
        await self.release(store, Grip(SCOPE, key, answer.token), "returned")
        return answer.attempts
