"""Options of `sqlite:///relative.db` and `sqlite:////absolute.db`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a URL of this backend can say; durations in seconds."""

    scheme: str = "sqlite"
    open: Literal["eager", "lazy"] = "eager"
    open_timeout: float = 10.0
    path: str
    create: bool = True
    names: Literal["portable", "any"] = "portable"
    lease: float = 30.0
    wait: float = 20.0
    ordering: Literal["key", "none"] = "key"
    dedup: float = 300.0
    retention: float | None = None
    history: int = 1_000_000
    max_message: int = 16 << 20
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL"
