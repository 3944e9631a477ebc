"""Plan: what a drill does, as a file that each of its processes reads.

Law: data, and what follows from it by the seed alone: every process that reads the same plan sees the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """One drill; durations in seconds.

    Attributes:
        url: where; the service of any backend.
        urls: of processes that have a way of their own, by name; `reader` looks at the dead letters in the end.
        folder: where ledgers and logs are kept.
        messages: of all producers together.
        keys: of each producer.
        poison: the share of messages that no handler can take.
        window: how many a producer has out at once.
        pace: how long it rests between two windows; so that it still publishes when something is done to a broker.
        size: of a body in bytes, about.
        store: where `@idempotent` remembers; None: plain handlers, and a message may have two effects after a kill.
        reader: the group that reads the dead letters when all is over.
        once: whether a second publish of one id is recognised, by the service (or by the store).
        ordered: whether order by key is asked for.
        kill_consumers, kill_producers: seconds between two kills, about; 0: none.
        leaving: the share of these that are told to stop instead, as a deployment would, and are started again.
        kills: of one role at most; None: as many as fall into the time.
        brakes: whether a consumer rests when most handlers fail, and puts off retries that are too many in proportion.
        work: how long a handler waits before its effect; some, so that messages are waited for, not consumers.
        patience: how long what had its effect may stay without a completion: it may have been written and not told.
            More than a lease.
        unanswered: where a service answers no ack: for how long its connection must live on until one counts.
        stall: how long nothing may happen at all before the drill is over, and lost.
    """

    url: str
    folder: str
    urls: Mapping[str, str] = {}
    seed: int = 1
    messages: int = 3000
    producers: int = 3
    consumers: int = 3
    keys: int = 40
    poison: float = 0.002
    window: int = 500
    pace: float = 0.0
    size: int = 100
    destination: str = "drill"
    group: str | None = "crew"
    dead_letter: str = "drill-dead"
    reader: str | None = "judge"
    store: str | None = None
    once: bool = True
    ordered: bool = True
    concurrency: int = 16
    max_attempts: int = 3
    kill_consumers: float = 1.0
    kill_producers: float = 0.0
    leaving: float = 0.0
    kills: int | None = None
    brakes: bool = True
    work: float = 0.002
    patience: float = 6.0
    unanswered: float = 0.0
    stall: float = 90.0

    @property
    def events(self) -> Path:
        """What consumers did and who was killed, in one order."""
        return Path(self.folder) / "events.jsonl"

    def way(self, name: str) -> str:
        """The URL that a process is given."""
        return self.urls.get(name, self.url)

    def sends(self, producer: str) -> Path:
        """What one producer did."""
        return Path(self.folder) / f"sends.{producer}.jsonl"

    def log(self, name: str) -> Path:
        """What a process said."""
        return Path(self.folder) / f"{name}.log"

    def save(self) -> Path:
        """Write it where the processes find it."""
        path = Path(self.folder) / "plan.json"
        path.write_bytes(msgspec.json.encode(self))
        return path

    @classmethod
    def load(cls, path: str) -> Plan:
        """Read it."""
        return msgspec.json.decode(Path(path).read_bytes(), type=cls)

    def names(self, role: str) -> list[str]:
        """Return the names of all producers or consumers, which a restart does not change."""
        count = self.producers if role == "producer" else self.consumers
        return [f"{role}-{number}" for number in range(1, count + 1)]

    def parcels(self, producer: str) -> Iterator[Parcel]:
        """Yield what a producer publishes, in order."""
        place = self.names("producer").index(producer)
        random = Random(f"{self.seed}/{producer}")
        share, rest = divmod(self.messages, self.producers)
        for number in range(share + (place < rest)):
            key = f"{producer}/{random.randrange(self.keys)}"
            yield Parcel(f"{producer}-{number}", key, number, random.random() < self.poison)


class Parcel(NamedTuple):
    """One message of the plan; `number` rises with each of its key."""

    id: str
    key: str
    number: int
    poison: bool


class Body(Struct):
    """What travels."""

    number: int
    poison: bool
    padding: str = ""


def who(name: str, life: int) -> str:
    """Return the name of one life of a process: each restart is another."""
    return f"{name}#{life}"


def name_of(who: str) -> str:
    """Return the name that all lives of a process share."""
    return who.partition("#")[0]


def role_of(who: str) -> str:
    """Return what a process is: producer or consumer."""
    return name_of(who).partition("-")[0]
