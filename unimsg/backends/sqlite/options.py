"""Options of `sqlite:///relative.db` and `sqlite:////absolute.db`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, unquote

from unimsg.errors import OptionError
from unimsg.options import Options as BaseOptions
from unimsg.options import Range, Seconds


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(BaseOptions):
    """What a URL of this backend can say; durations in seconds.

    Attributes:
        path: the file; relative to the working directory, or absolute.
        create: whether the file and destinations come into being on first use.
        lease: how long a delivery belongs to its consumer; prolonged while it is in hand.
        wait: the longest that one receive waits.
        ordering: `none` lets the messages of one key overtake each other.
        dedup: for how long an id is recognised; `0s` turns that off.
        retention: after which an unconsumed message is dropped; None: never.
        history: how many messages are kept for replay, at least, when all groups are done with them.
        synchronous: what a confirmation survives: `FULL` a loss of power, `NORMAL` a kill of the process (a loss of
            power can take the last moments), `OFF` neither for certain.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"path"})

    scheme: str = "sqlite"
    path: str = "unimsg.db"
    create: bool = True
    lease: Annotated[Seconds, Range(0.01, 43200)] = 30.0
    wait: Annotated[Seconds, Range(0.001, 3600)] = 20.0
    ordering: Literal["key", "none"] = "key"
    dedup: Seconds = 300.0
    retention: Annotated[Seconds, Range(0.001)] | None = None
    history: Annotated[int, Range(0)] = 1_000_000
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL"

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the path: what follows the third slash."""
        path = unquote(where[1:])
        if not where.startswith("/") or not path or path.endswith("/"):
            raise OptionError(
                f"{scheme}:// needs a file after a third slash: {scheme}:///relative.db or {scheme}:////absolute.db"
            )
        if path.startswith(":") or "\0" in path:
            raise OptionError(f"{scheme}:///{quote(path)} is no file: for a broker in memory use memory://")
        return {"path": path}

    def where(self, *, secrets: bool) -> str:
        """Return the path behind its slash."""
        return "/" + quote(self.path, safe="/")
