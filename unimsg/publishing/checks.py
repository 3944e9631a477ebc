"""Checks before the wire: what is wrong with a message whatever service it goes to.

Law: pure; raises, never mends. What a service's own limits say is checked by its sender's `measure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

from msgspec.structs import replace

from unimsg.capabilities import Capabilities, Needs, check
from unimsg.errors import RejectedError
from unimsg.headers import copied
from unimsg.message import MOST_HEADERS, NO_HEADERS, WireMessage

RESERVED = "unimsg-"
"""Header names that begin so are ours."""
LOWEST, HIGHEST = 0, 9
"""The range of `priority`."""


def message(message: WireMessage, *, reserved: bool = False) -> WireMessage:
    """Refuse a message that no service could carry as it is meant.

    Args:
        message: its body is not looked at.
        reserved: whether headers of ours are allowed.

    Returns:
        An equal message; its headers are a copy, since the caller may go on to change them.

    Raises:
        RejectedError: a field has the wrong type or is out of range.
    """
    if message.key is not None and not isinstance(message.key, str):
        raise RejectedError(f"key must be text or None, not {type(message.key).__name__}")
    if message.key is not None and not _utf8(message.key):
        raise RejectedError("key holds a lone surrogate, which UTF-8 cannot: replace it")
    if message.id is not None and (not isinstance(message.id, str) or not message.id):
        raise RejectedError(f"id must be text that is not empty, not {message.id!r}")
    if message.content_type is not None and not isinstance(message.content_type, str):
        raise RejectedError(f"content_type must be text or None, not {type(message.content_type).__name__}")
    if message.delay != 0.0 and not (_is_number(message.delay) and message.delay > 0):
        raise RejectedError(f"delay must be 0 or more seconds, not {message.delay!r}")
    if message.ttl is not None and not (_is_number(message.ttl) and message.ttl > 0):
        raise RejectedError(f"ttl must be more than 0 seconds, not {message.ttl!r}")
    priority = message.priority
    if priority is not None and not (type(priority) is int and LOWEST <= priority <= HIGHEST):
        raise RejectedError(f"priority must be a whole number from {LOWEST} to {HIGHEST}, not {priority!r}")
    headers = message.headers
    if headers is NO_HEADERS or (type(headers) is dict and not headers):
        return message
    _headers(headers, reserved=reserved)
    return replace(message, headers=copied(headers))


def capabilities(
    message: WireMessage,
    have: Capabilities,
    *,
    backend: str,
    destination: str,
    others: Callable[[], Mapping[str, Capabilities]],
) -> None:
    """Refuse a message that asks for what the backend, as configured, does not have.

    Raises:
        CapabilityError: with `missing`.
    """
    needs = _needs(
        headers=bool(message.headers),
        delay=bool(message.delay),
        ttl=message.ttl is not None,
        priority=message.priority is not None,
    )
    check(needs, have, backend=backend, destination=destination, others=others)


@cache
def _needs(*, headers: bool, delay: bool, ttl: bool, priority: bool) -> Needs:
    return Needs(
        headers="emulated" if headers else None,
        delay="emulated" if delay else None,
        ttl=ttl or None,
        priority=priority or None,
    )


def _utf8(text: str) -> bool:
    """Whether it can travel: bytes of a foreign producer, kept by `surrogateescape`, can."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _headers(headers: object, *, reserved: bool) -> None:
    if not isinstance(headers, Mapping):
        raise RejectedError(f"headers must map text to text, not be {type(headers).__name__}")
    if len(headers) > MOST_HEADERS and not reserved:
        raise RejectedError(
            f"the message has {len(headers)} headers, at most {MOST_HEADERS} are allowed: put them into the body"
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise RejectedError(
                f"header {name!r}: name and value must be text, not {type(name).__name__} and {type(value).__name__}"
            )
        if not name:
            raise RejectedError("a header has no name")
        if not (_utf8(name) and _utf8(value)):
            raise RejectedError(f"header {name!r} holds a lone surrogate, which UTF-8 cannot: replace it")
        if not reserved and name[: len(RESERVED)].lower() == RESERVED:
            raise RejectedError(
                f"header {name!r}: names that begin with {RESERVED!r} are reserved, choose another"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
