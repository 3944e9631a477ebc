"""Registry: schemes and who serves them.

Law: knows backends and stores by string only, and loads one when it is asked for. Third parties add a backend by the
entry-point group `unimsg.backends`: the name is the scheme, the value the package that is its `unimsg.spi.Plugin`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from unimsg.capabilities import Capabilities
from unimsg.errors import ConfigError, MissingExtraError, UnknownSchemeError
from unimsg.options import Options, redact
from unimsg.spi import Plugin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("unimsg.registry")

BACKENDS: Mapping[str, str] = {
    "memory": "unimsg.backends.memory",
    "sqlite": "unimsg.backends.sqlite",
    "kafka": "unimsg.backends.kafka",
    "msk": "unimsg.backends.kafka",
    "amqp": "unimsg.backends.rabbitmq",
    "amqps": "unimsg.backends.rabbitmq",
    "activemq": "unimsg.backends.activemq",
    "activemq+ssl": "unimsg.backends.activemq",
    "sns": "unimsg.backends.sns",
    "sns+fifo": "unimsg.backends.sns",
    "sqs": "unimsg.backends.sqs",
    "sqs+fifo": "unimsg.backends.sqs",
}
STORES: Mapping[str, str] = {
    "memory": "unimsg.stores.memory",
    "sqlite": "unimsg.stores.sqlite",
}
GROUP = "unimsg.backends"


@cache
def _third_parties() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - a quarter of the time that `import unimsg` takes

    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BACKENDS}


def schemes() -> tuple[str, ...]:
    """Return every scheme that `connect` knows, ours first."""
    return (*BACKENDS, *sorted(_third_parties()))


def plugin(scheme: str) -> Plugin:
    """Return the backend of a scheme, without its client library.

    Raises:
        UnknownSchemeError: no backend has it.
        MissingExtraError: its package needs one that is not installed.
    """
    if scheme in BACKENDS:
        return cast("Plugin", _load(BACKENDS[scheme], scheme))
    third = _third_parties().get(scheme)
    if third is None:
        raise UnknownSchemeError(_unknown("backend", scheme, schemes()))
    loaded = _load_third(third)
    if not hasattr(loaded, "declare") or not hasattr(loaded, "build"):
        raise ConfigError(
            f"the entry point {scheme!r} in {GROUP} is no backend: {third.value} must be a unimsg.spi.Plugin"
        )
    return cast("Plugin", loaded)


def store_module(scheme: str) -> ModuleType:
    """Return the module of an idempotency store.

    Raises:
        UnknownSchemeError: no store has this scheme.
        MissingExtraError: it needs a package that is not installed.
    """
    if scheme not in STORES:
        raise UnknownSchemeError(_unknown("store", scheme, tuple(STORES)))
    return _load(STORES[scheme], scheme)


def declared() -> Mapping[str, Capabilities]:
    """Return what every backend that can be loaded declares with its default options, by scheme."""
    found: dict[str, Capabilities] = {}
    for scheme in schemes():
        try:
            backend = plugin(scheme)
            options: Any = backend.Options(scheme=scheme)
            found[scheme] = backend.declare(options)
        except Exception as error:  # noqa: BLE001 - one that cannot be loaded must not spoil another's refusal
            log.debug("no declared capabilities for %s: %s", scheme, error)
    return found


def options_of(scheme: str) -> type[Options]:
    """Return the options class of a scheme."""
    return cast("type[Options]", plugin(scheme).Options)


def _load_third(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except ImportError as error:
        raise MissingExtraError(
            f"{entry.name}:// is served by {entry.value}, which cannot be imported: {error}; install what it needs"
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f"the entry point {entry.name!r} in {GROUP} is no backend: there is no {entry.value}"
        ) from error


def _load(module: str, scheme: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("unimsg"):
            raise
        extra = module.rpartition(".")[2]
        raise MissingExtraError(
            f"{scheme}:// needs {error.name}, which is not installed: pip install 'unimsg[{extra}]'"
        ) from error


def _unknown(kind: str, scheme: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(scheme, known, 1)
    hint = f"did you mean {near[0]}://?" if near else f"known are {', '.join(name + '://' for name in known)}"
    return f"no {kind} is known for {redact(scheme)!r}; {hint}"
