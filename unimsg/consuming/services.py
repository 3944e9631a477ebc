"""Services: what the client hands to a consuming loop.

Law: types only; `consuming` knows nothing of the way out, so publishing comes in here as functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unimsg.capabilities import Capabilities
from unimsg.errors import Error
from unimsg.message import Receipt, WireMessage
from unimsg.spi import Events, Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the client hands in."""

    backend: str
    open_receiver: Callable[[Events], Awaitable[Receiver]]
    capabilities: Callable[[], Capabilities]
    others: Callable[[], Mapping[str, Capabilities]]
    translate: Callable[[Exception], Error | None]
    dead_letter: Callable[[str, WireMessage], Awaitable[object]]
    publish: Callable[[str, Any, Mapping[str, Any]], Awaitable[Receipt]]
    max_body: int = 16 * 1024 * 1024
