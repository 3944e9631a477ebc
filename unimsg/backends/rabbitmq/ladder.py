"""Ladder: how a failed message waits at the server: in a queue whose messages expire, back into the queue it came from.

Law: a copy is confirmed before the original is acked. One exchange and a few queues serve all queues of a virtual host:
the routing key of the copy is the queue it goes back to, which the server keeps on its way through the default
exchange. Each copy has its own ttl; it stands behind others of its rung only, whose ttl is at most twice its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimsg.backends.rabbitmq import wire
from unimsg.backends.rabbitmq.outlet import Parcel
from unimsg.spi import Settlement

EXCHANGE = "unimsg.retry"
RUNGS = tuple(1 << power for power in range(13))
"""Seconds of the longest wait on each rung."""
LONGEST = float(RUNGS[-1])
PROPERTIES = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "message_id",
    "timestamp",
    "type",
)
"""What a copy keeps beside headers and priority; `user_id` would be checked, the expiration is the wait."""


def queue(rung: int) -> str:
    """Return the name of the queue of a rung."""
    return f"{EXCHANGE}.{rung}s"


def arguments(rung: int) -> Mapping[str, Any]:
    """Return how the queue of a rung is made: it gives nothing up before the next queue has confirmed it.

    Source: https://www.rabbitmq.com/docs/quorum-queues#dead-lettering, at-least-once dead lettering.
    """
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": rung * 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def rung_of(delay: float) -> int:
    """Return the rung on which a delay is waited for."""
    return next((rung for rung in RUNGS if delay <= rung), RUNGS[-1])


def copy(source: str, raw: tuple[Any, Any, bytes], settlement: Settlement) -> Parcel:
    """Return the copy of a delivery that comes back into the queue `source` after a delay, with its past."""
    method, properties, body = raw
    table = {
        name: value for name, value in (properties.headers or {}).items() if not name.startswith(wire.THEIRS)
    }
    table.pop(wire.COPY, None)
    if wire.KEY not in table and method.exchange and method.routing_key:
        table[wire.KEY] = method.routing_key
    deliveries = wire.counts(properties, redelivered=method.redelivered)[1]
    delay = settlement.delay
    table |= {wire.ATTEMPTS: settlement.executions, wire.DELIVERIES: deliveries, wire.RUNG: rung_of(delay)}
    if settlement.first_failed is not None:
        table[wire.FIRST_FAILED] = round(settlement.first_failed * 1000)
    kept = {name: value for name in PROPERTIES if (value := getattr(properties, name)) is not None}
    if properties.priority is not None:
        kept["priority"] = properties.priority
    wait = str(max(0, round(delay * 1000)))
    return Parcel(
        source, {**kept, "headers": table, "delivery_mode": wire.PERSISTENT, "expiration": wait}, body
    )
