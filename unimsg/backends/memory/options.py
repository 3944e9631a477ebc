"""Options of `memory://` and `memory://name`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a URL of this backend can say; durations in seconds."""

    scheme: str = "memory"
    open: Literal["eager", "lazy"] = "eager"
    open_timeout: float = 10.0
    name: str = ""
    create: bool = True
    names: Literal["portable", "any"] = "portable"
    lease: float = 30.0
    wait: float = 20.0
    ordering: Literal["key", "none"] = "key"
    dedup: float = 300.0
    dedup_ids: int = 100_000
    retention: float | None = None
    history: int = 10_000
    max_message: int = 16 << 20
