"""The feed: real events, three lines that are none, and what is true about them.

Law: reads the file and computes from it directly; nothing here has to do with messages being delivered.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from unimsg import Message

FILE = Path(__file__).with_name("earthquakes.jsonl.gz")

MALFORMED = (
    b'{"type":"Feature","properties":{"mag":1.2,"place":"8km N of',
    b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    b'{"type":"Feature","id":"xx1","properties":{"mag":"strong","net":"xx","place":"somewhere"}}',
)
"""What a feed also gives: a line cut off, an error page, a field of the wrong type."""


class Properties(msgspec.Struct):
    """As much of a feature's properties as is needed here."""

    net: str
    mag: float
    place: str


class Quake(msgspec.Struct):
    """One event."""

    id: str
    properties: Properties


class Row(NamedTuple):
    """One line of the table."""

    events: int
    strongest: float


@cache
def lines() -> Sequence[bytes]:
    """The lines of the file, as the feed gave them."""
    return gzip.decompress(FILE.read_bytes()).splitlines()


@cache
def quakes() -> Sequence[Quake]:
    """The events of the file, in its order."""
    return [msgspec.json.decode(line, type=Quake) for line in lines()]


def poll(*, with_malformed: bool) -> Iterator[Message[bytes | None]]:
    """What a client that polls the feed publishes: each line as it is, ordered by reporting network."""
    broken = {(number + 1) * len(lines()) // 4: line for number, line in enumerate(MALFORMED)}
    for number, (line, quake) in enumerate(zip(lines(), quakes(), strict=True)):
        if with_malformed and number in broken:
            yield Message(body=broken[number])
        yield Message(body=line, key=quake.properties.net)


def order() -> Mapping[str, Sequence[str]]:
    """The ids of each network, in the order of the feed."""
    found: dict[str, list[str]] = {}
    for quake in quakes():
        found.setdefault(quake.properties.net, []).append(quake.id)
    return found


def table(events: Sequence[Quake]) -> Mapping[str, Row]:
    """How many events each network reported, and the strongest of them."""
    found: dict[str, Row] = {}
    for quake in events:
        row = found.get(quake.properties.net, Row(0, -10.0))
        found[quake.properties.net] = Row(row.events + 1, max(row.strongest, quake.properties.mag))
    return found
