"""Outcome: what a plain function returned, kept with its row, so that a duplicate returns it too.

Law: pure. A function that returns nothing keeps nothing. What cannot be kept is refused when the function is
decorated, as far as its annotation tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import NoneType
from typing import Any, get_type_hints

from unimsg.codecs import JSON, Codec, resolve
from unimsg.errors import CodecError, ConfigError, IdempotencyError

log = logging.getLogger("unimsg.idempotency")

LARGEST = 64 * 1024
"""Bytes of a result that are kept."""
KEPT, NOT_KEPT = b"=", b"!"
"""How a row says that a result follows, or that there was one and it could not be kept."""


def codec_of(function: Callable[..., Any], name: str) -> Codec[Any] | None:
    """Return how the results of a function are kept; None: it returns nothing.

    Raises:
        ConfigError: it says that it returns what cannot be kept.
    """
    try:
        hint: Any = get_type_hints(function).get("return", Any)
    except Exception as error:  # noqa: BLE001 - a name that exists for type checkers only: it may be anything
        log.debug("the annotations of %s cannot be resolved: %s", name, error)
        hint = Any
    if hint is NoneType:
        return None
    if hint is Any:
        return JSON
    try:
        return resolve(hint)
    except ConfigError as error:
        raise ConfigError(
            f"{name} returns {getattr(hint, '__name__', hint)}, which cannot be kept for duplicates: return None, or "
            "what JSON can hold"
        ) from error


def kept(codec: Codec[Any] | None, result: Any, name: str) -> bytes | None:  # noqa: ANN401 - whatever it returned
    """Return the bytes to keep; None stands for None."""
    if result is None or codec is None:
        return None
    try:
        raw = codec.encode(result)
    except CodecError as error:
        log.warning("the result of %s is not kept, a duplicate will raise: %s", name, error)
        return NOT_KEPT
    if raw is None or len(raw) > LARGEST:
        log.warning("the result of %s is not kept, a duplicate will raise: above %d bytes", name, LARGEST)
        return NOT_KEPT
    return KEPT + raw


def again(codec: Codec[Any] | None, outcome: bytes | None, name: str, key: str) -> Any:  # noqa: ANN401 - as above
    """Return what the first call returned.

    Raises:
        IdempotencyError: it was done, and its result was not kept.
        DecodeError: the function returns something else now than when it was kept.
    """
    if outcome is None or codec is None:
        return None
    if outcome == NOT_KEPT:
        raise IdempotencyError(f"{name} was done for key {key!r}, and its result could not be kept")
    return codec.decode(outcome.removeprefix(KEPT))
