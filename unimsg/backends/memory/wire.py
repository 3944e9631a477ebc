"""Wire of memory: a message is kept as it is; here is what may be kept.

Law: pure mapping and checks, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from unimsg.errors import MessageTooLargeError
from unimsg.message import NO_HEADERS, WireMessage

NAME = "memory"


def encode(message: WireMessage) -> WireMessage:
    """Return what is kept: its headers are no longer the sender's to change."""
    return replace(message, headers=dict(message.headers)) if message.headers else message


def measure(limit: int) -> Callable[[WireMessage], int]:
    """Return a function that gives the size of a message in bytes, and refuses one over `limit`."""

    def size_of(message: WireMessage) -> int:
        size = len(message.body or b"")
        if message.headers is not NO_HEADERS:
            size += sum(_bytes(name) + _bytes(value) for name, value in message.headers.items())
        if size > limit:
            raise MessageTooLargeError(
                f"body and headers have {size} bytes, the limit is {limit}: send a reference instead, "
                "or raise max_body=",
                size=size,
                limit=limit,
                backend=NAME,
            )
        return size

    return size_of


def _bytes(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
