"""Options of `memory://` and `memory://name`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from unimsg import options
from unimsg.options import Range, Seconds, Size, check_name


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(options.Options):
    """What a URL of this backend can say.

    Attributes:
        name: shared in this process by this name; without one the broker is private to its client.
        create: `false` refuses destinations and groups that were not provisioned.
        lease: how long a delivery belongs to its consumer.
        wait: the longest that one receive waits.
        ordering: `none` gives up order by key, as SQS Standard does.
        dedup: for how long the id of a message is remembered; `0s` turns recognition off.
        dedup_ids: how many ids are remembered at most.
        retention: for how long messages are kept, consumed or not; without it until every group is done with them.
        history: messages that every group is done with and that are kept for replay.
        max_message: the most that body and headers may have together.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"name"})

    scheme: str = "memory"
    name: str = ""
    create: bool = True
    lease: Annotated[Seconds, Range(0.001, 43_200)] = 30.0
    wait: Annotated[Seconds, Range(0, 3600)] = 20.0
    ordering: Literal["key", "none"] = "key"
    dedup: Annotated[Seconds, Range(0, 86_400)] = 300.0
    dedup_ids: Annotated[int, Range(1)] = 100_000
    retention: Annotated[Seconds, Range(0.001)] | None = None
    history: Annotated[int, Range(0)] = 10_000
    max_message: Annotated[Size, Range(1)] = 16 << 20

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the name that stands there."""
        if where:
            check_name("name", where, names="portable", backend=scheme)
        return {"name": where}

    def where(self, *, secrets: bool) -> str:  # noqa: ARG002 - there are none
        """Return the name."""
        return self.name
