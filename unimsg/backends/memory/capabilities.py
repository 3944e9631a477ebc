"""What memory can do, as an option leaves it."""

from __future__ import annotations

from math import inf

from unimsg.backends.memory.log import Rules
from unimsg.backends.memory.options import Options
from unimsg.capabilities import Capabilities, Lease


def declare(options: Options) -> Capabilities:
    """Return what a program can rely on with these options."""
    declared = Capabilities(
        ordering="key",
        delivery="at_least_once",
        dedup="window",
        dedup_window=options.dedup,
        groups=True,
        replay="time",
        retention=options.retention,
        max_message_bytes=options.max_body,
        headers="native",
        delay="native",
        ttl=True,
        dead_letter="native",
        lease=Lease(options.lease),
        attempts="broker",
        durability="memory",
    )
    if options.ordering == "none":
        declared = declared.lower("option ordering=none", ordering="none")
    if not options.dedup:
        declared = declared.lower("option dedup=0s", dedup="none", dedup_window=None)
    return declared


def rules(options: Options) -> Rules:
    """Return what the broker keeps to."""
    return Rules(
        ordered=options.ordering == "key",
        retention=inf if options.retention is None else options.retention,
        history=options.history,
        dedup=options.dedup,
        dedup_ids=options.dedup_ids,
    )
