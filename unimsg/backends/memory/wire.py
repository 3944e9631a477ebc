"""Wire of memory: a message is kept as it is; here is what may be kept, and by which names.

Law: pure mapping and checks, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from unimsg.errors import MessageTooLargeError, OptionError
from unimsg.message import NO_HEADERS, WireMessage

NAME = "memory"
PORTABLE = re.compile(r"[A-Za-z0-9_-]{1,60}")


def encode(message: WireMessage) -> WireMessage:
    """Return what is kept: its headers are no longer the sender's to change."""
    return replace(message, headers=dict(message.headers)) if message.headers else message


def measure(limit: int) -> Callable[[WireMessage], int]:
    """Return a function that gives the size of a message in bytes, and refuses one over `limit`."""

    def size_of(message: WireMessage) -> int:
        size = len(message.body or b"")
        if message.headers is not NO_HEADERS:
            size += sum(len(name) + len(value) for name, value in message.headers.items())
        if size > limit:
            raise MessageTooLargeError(
                f"body and headers have {size} bytes, the limit is {limit}: send a reference instead, "
                "or raise max_message=",
                size=size,
                limit=limit,
                backend=NAME,
            )
        return size

    return size_of


def check_name(kind: str, name: str, options: Any) -> None:  # noqa: ANN401 - the Options of this backend
    """Refuse names that other backends could not have, unless any are welcome.

    Raises:
        OptionError: the name is not portable and `names` is not `any`.
    """
    if options.names != "any" and not PORTABLE.fullmatch(name):
        raise OptionError(
            f"{kind} {name!r} is not portable: use 1 to 60 of A-Z a-z 0-9 _ -, or open with names=any", backend=NAME
        )
