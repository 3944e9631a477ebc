"""Options of `memory://` and `memory://name`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, unquote

from unimsg.errors import OptionError
from unimsg.options import Options as BaseOptions
from unimsg.options import Range, Seconds

Share = Annotated[float, Range(0.0, 1.0)]


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(BaseOptions):
    """What a URL of this backend can say; durations in seconds.

    Attributes:
        name: clients of one name share a broker in this process; without one it is private to its client.
        create: whether destinations come into being on first use.
        lease: how long a delivery belongs to its consumer; prolonged while it is in hand.
        wait: the longest that one receive waits.
        ordering: `none` lets the messages of one key overtake each other.
        dedup: for how long an id is recognised; `0s` turns that off.
        dedup_ids: the most ids that are remembered for it: beyond, the window is shorter, and a warning says so.
        retention: after which an unconsumed message is dropped; None: never.
        history: how many messages are kept for replay, at least, when all groups are done with them.
        chaos: the seed of all that the next four do.
        duplicate: the share of messages that are delivered twice.
        reorder: the share of receives in which messages that have no order are shuffled.
        delay: the longest by which a message comes later than it could.
        fail: the share of messages and settlements that are refused for once, in the middle of a batch.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"name"})

    scheme: str = "memory"
    name: str = ""
    create: bool = True
    lease: Annotated[Seconds, Range(0.01, 43200)] = 30.0
    wait: Annotated[Seconds, Range(0.001, 3600)] = 20.0
    ordering: Literal["key", "none"] = "key"
    dedup: Seconds = 300.0
    dedup_ids: Annotated[int, Range(2)] = 100_000
    retention: Annotated[Seconds, Range(0.001)] | None = None
    history: Annotated[int, Range(0)] = 10_000
    chaos: int = 0
    duplicate: Share = 0.0
    reorder: Share = 0.0
    delay: Seconds = 0.0
    fail: Annotated[float, Range(0.0, 0.9)] = 0.0

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the name of the broker."""
        name = where.removesuffix("/")
        if "/" in name or "@" in name:
            raise OptionError(f"{scheme}:// takes one name without / or @, as in {scheme}://tests")
        return {"name": unquote(name)}

    def where(self, *, secrets: bool) -> str:
        """Return the name."""
        return quote(self.name, safe="")
