"""Connecting: a URL or options become a client, without any I/O.

Law: finds the backend by its scheme and compares needs with what it declares; names no backend.
"""

from __future__ import annotations

from typing import Any

from unimsg import registry
from unimsg.capabilities import Needs, check
from unimsg.client.client import Client
from unimsg.errors import ConfigError, OptionError
from unimsg.options import Options, json_schema, parse, redact


def connect(target: str | Options, *, needs: Needs | None = None) -> Client:
    """Return a client for a URL or options, without any I/O; what cannot work is refused here.

    Args:
        target: `scheme://where?option=value`, or the `Options` of a backend, which take what a URL cannot hold.
        needs: what the program relies on, compared with what the backend declares for these options; and again with
            what is in effect when a publisher or subscriber opens.

    Raises:
        UnknownSchemeError: no backend has this scheme.
        MissingExtraError: the backend's client library is not installed; the sentence gives the `pip install` line.
        OptionError: an option is unknown, repeated, empty, malformed or out of range.
        CapabilityError: a need is not met; the sentence names what took it and who has it.
    """
    if isinstance(target, Options):
        options, plugin = target, registry.plugin(target.scheme)
    elif isinstance(target, str):
        scheme, found, _ = target.partition("://")
        if not found:
            raise OptionError(
                f"{redact(target)!r} is no URL: give scheme://where?option=value, as in memory://"
            )
        plugin = registry.plugin(scheme)
        options = parse(target, plugin.Options)
    else:
        raise ConfigError(f"connect takes a URL or Options, not {type(target).__name__}")
    capabilities = plugin.declare(options)
    check(needs, capabilities, backend=options.scheme, others=registry.declared)
    return Client(plugin.build(options), options, needs)


def options_schema(scheme: str) -> dict[str, Any]:
    """Return the JSON Schema of the options of a scheme, for editors, forms and configuration checks."""
    return json_schema(registry.plugin(scheme).Options)
