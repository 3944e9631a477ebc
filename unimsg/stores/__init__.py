"""Stores: `store(url)` finds the one of a URL; each is one file here.

Law: no I/O, no store by name: a store's library loads with its own file, when it is asked for.
"""

from __future__ import annotations

from unimsg import registry
from unimsg.errors import ConfigError
from unimsg.idempotency.store import Store
from unimsg.options import parse, redact


def store(url: str) -> Store:
    """Return the idempotency store of a URL, without any I/O; see `docs/how-to/idempotency.md` for the options.

    `memory://` is private to what is returned, `memory://name` shared in the process; `sqlite:///seen.db` is shared by
    all processes of a machine. Whoever uses it first opens it and the last closes it; `async with store` holds it open.

    Args:
        url: `scheme://where?option=value`.

    Raises:
        UnknownSchemeError: no store has this scheme.
        MissingExtraError: the store's library is not installed; the sentence gives the `pip install` line.
        OptionError: an option is unknown, repeated, empty, malformed or out of range.
    """
    if not isinstance(url, str):
        raise ConfigError(f"store takes a URL, not {type(url).__name__}: store('sqlite:///seen.db')")
    scheme, found, _ = url.partition("://")
    if not found:
        raise ConfigError(f"{redact(url)!r} is no URL: give scheme://where, as in sqlite:///seen.db")
    module = registry.store_module(scheme)
    built: Store = module.build(parse(url, module.Options))
    return built


__all__ = ["Store", "store"]
