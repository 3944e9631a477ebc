"""Acks: which deliveries of one channel are out, and with how few frames some of them can be acked.

Law: pure. `multiple` acks everything up to its tag, so it is used only where nothing older is still out: over a gap it
would ack what nobody has handled (promise 5). Its tag must be one that is out, else the server closes the channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Acks(Generic[T]):
    """The deliveries of one channel that are not settled, in the order of their tags."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._out)

    def __contains__(self, tag: int) -> bool:
        return tag in self._out

    def __getitem__(self, tag: int) -> T:
        return self._out[tag]

    def delivered(self, tag: int, what: T) -> None:
        """A delivery came; tags of a channel only grow."""
        self._out[tag] = what

    def done(self, tags: Iterable[int]) -> list[tuple[int, bool]]:
        """Settle deliveries that are out; returns what is to be sent: tag, and whether all before it are meant too."""
        out = self._out
        tags = sorted(tags)
        for tag in tags:
            del out[tag]
        oldest = next(iter(out), None)
        prefix = len(tags) if oldest is None else sum(tag < oldest for tag in tags)
        frames = [(tags[prefix - 1], prefix > 1)] if prefix else []
        return frames + [(tag, False) for tag in tags[prefix:]]
