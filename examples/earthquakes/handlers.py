"""The job: two groups read the same feed, each in the order of its reporting network, each event once.

Law: what a service would have. Nothing here knows that it is watched, killed or sent duplicates.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

import unimsg
from examples.earthquakes.feed import Quake
from unimsg import Delivery, RetryPolicy, Router, idempotent

DESTINATION = "earthquakes"
GROUPS = ("catalogue", "alerts")
ALERT = 4.5
RETRY = RetryPolicy(max_attempts=3, initial=0.02, max=0.2)

NETWORKS = {
    "ak": "Alaska",
    "ci": "Southern California",
    "hv": "Hawaii",
    "mb": "Montana",
    "nc": "Northern California",
    "nn": "Nevada",
    "pr": "Puerto Rico",
    "us": "World",
    "uu": "Utah",
    "uw": "Pacific Northwest",
}
FORGOTTEN = {"nm": "New Madrid", "se": "Southeast"}
"""What the first version of this service did not know; its events wait as dead letters until the fix is deployed."""


class Effect(msgspec.Struct):
    """One line of the effects file: what a handler did in the outer world."""

    group: str
    worker: str
    attempt: int
    quake: Quake
    alert: bool = False


@dataclass
class Outside:
    """The outer world: a file that is only appended to, beside every store, so that a second effect would show.

    Attributes:
        path: the effects file.
        worker: who writes.
        networks: the names of the networks, as far as this version of the service knows them.
    """

    path: Path
    worker: str
    networks: dict[str, str]

    def __post_init__(self) -> None:
        """Open the file so that lines of several processes never mix."""
        self._file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    async def name(self, delivery: Delivery[Quake]) -> str:
        """Ask a gazetteer that takes 2 ms, and that does not answer every fiftieth first question."""
        await asyncio.sleep(0.002)
        if delivery.attempt == 1 and zlib.crc32(delivery.body.id.encode()) % 50 == 0:
            raise ConnectionError("the gazetteer did not answer")
        return self.networks[delivery.body.properties.net]

    def write(self, group: str, delivery: Delivery[Quake], *, alert: bool = False) -> None:
        """Do it: one line, one system call."""
        effect = Effect(group, self.worker, delivery.attempt, delivery.body, alert)
        os.write(self._file, msgspec.json.encode(effect) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def groups_of(url: str) -> tuple[str, ...]:
    """Return the groups that the service has here: a queue has one only, and its URL says which."""
    return tuple(parse_qs(urlsplit(url).query).get("group", GROUPS))


def dead_letters(group: str) -> str:
    """Where the dead letters of a group go."""
    return f"{DESTINATION}-{group}-dead"


def build(store_url: str, outside: Outside, groups: Sequence[str] = GROUPS) -> Router:
    """Return the router of the service."""
    router = Router()
    store = unimsg.store(store_url)

    async def catalogue(delivery: Delivery[Quake]) -> None:
        await outside.name(delivery)
        outside.write("catalogue", delivery)

    async def alerts(delivery: Delivery[Quake]) -> None:
        await asyncio.sleep(0.001)
        outside.write("alerts", delivery, alert=delivery.body.properties.mag >= ALERT)

    handlers: dict[str, Any] = {"catalogue": catalogue, "alerts": alerts}
    for group in groups:
        once = idempotent(store, key=lambda delivery: delivery.body.id)
        router.on(
            DESTINATION,
            group=group,
            codec=Quake,
            order="key",
            concurrency=8,
            retry=RETRY,
            dead_letter=dead_letters(group),
        )(once(handlers[group]))
    return router
