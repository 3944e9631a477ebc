"""What travels: Message, and what comes back of it: Receipt, Position.

Law: data only. No I/O, no codec, no backend; one clock reading, for the id.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct, field

T = TypeVar("T")

NO_HEADERS: Mapping[str, str] = {}
MOST_HEADERS = 128
"""Headers that a message may be published with."""
OWN_HEADERS = 8
"""Headers that unimsg may add to those: a dead letter, a redrive, a trace."""

_random = random.Random()  # noqa: S311 - ids need to be unique, not secret; seeded from the system, apart from `random.seed`
_moment: tuple[int, str, Iterator[int]] = (0, "", count())


def _after_fork() -> None:
    global _moment  # noqa: PLW0603 - see new_id
    _random.seed()
    _moment = (0, "", count())


os.register_at_fork(after_in_child=_after_fork)


def new_id() -> str:
    """Return a new UUID of version 7: unique, and later ids of a process sort after earlier ones.

    The ids of one millisecond share its random bits and are counted on from a random number.
    Source: RFC 9562, sections 5.7 and 6.2, method 1 (https://www.rfc-editor.org/rfc/rfc9562#section-6.2).
    """
    global _moment  # noqa: PLW0603 - one tuple, replaced whole
    now = time.time_ns() // 1_000_000
    moment, begin, counter = _moment
    if now != moment:
        bits = _random.getrandbits
        begin = f"{now >> 16:08x}-{now & 0xFFFF:04x}-7{bits(12):03x}-{0x8000 | bits(14):04x}-"
        counter = count(bits(47))
        _moment = (now, begin, counter)
    return f"{begin}{next(counter):012x}"


class Message(Struct, Generic[T], frozen=True, kw_only=True, gc=False):
    """One message, as it is given to a publisher and as a consumer finds it in a delivery.

    Attributes:
        body: the payload; `bytes` on the wire, `None` where the service has tombstones.
        key: ordering and partition key; None: no order is asked for.
        headers: text to text. Bytes of a foreign producer that are not UTF-8 are kept with `surrogateescape`.
        id: the producer's identity of this message, the same on every resend; None only on foreign messages.
        content_type: media type of the body, if known.
        timestamp: when it was published, in seconds since the epoch; set by the publisher.
        delay: seconds before it may be delivered (needs `delay`).
        ttl: seconds after which it is dropped if not delivered (needs `ttl`).
        priority: 0 to 9, higher first (needs `priority`).
    """

    body: T
    key: str | None = None
    headers: Mapping[str, str] = NO_HEADERS
    id: str | None = field(default_factory=new_id)
    content_type: str | None = None
    timestamp: float | None = None
    delay: float = 0.0
    ttl: float | None = None
    priority: int | None = None


WireMessage: TypeAlias = Message[bytes | None]
"""A message on its way to or from a backend: the body is encoded; None is a tombstone."""


class Position(Struct, frozen=True, gc=False):
    """Where its service keeps a message; where there is replay, enough to start reading there again.

    Attributes:
        partition: partition, shard, log or queue by the name that the service gives it.
        offset: the service's own coordinate within it: a queue's is its own id of the message.
    """

    partition: str
    offset: int | str

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"


class Receipt(Struct, frozen=True, gc=False):
    """The service has confirmed the message.

    Attributes:
        id: the id of the message.
        position: where it was stored, if the service says so.
        duplicate: the service recognised the id and stored nothing new.
    """

    id: str | None
    position: Position | None = None
    duplicate: bool = False
