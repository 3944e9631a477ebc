"""Shapes: backends in memory that behave as three kinds of services do, so that the portable core is proved on each.

`loglike` has partitions, cumulative commits and assignments that are revoked or lost (Kafka, Kinesis); `fifolike` has
message groups, a lease for each receipt and long polls that strand what they catch (SQS FIFO); `pushlike` pushes, and
settles on the link that delivered (RabbitMQ, MQTT).

Law: each is a `unimsg.spi.Plugin` of its own and knows no other; they are for tests, nobody's messages belong here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from unimsg import registry

SHAPES: Mapping[str, str] = {
    "loglike": "unimsg.testing.shapes.log",
    "fifolike": "unimsg.testing.shapes.fifo",
    "pushlike": "unimsg.testing.shapes.push",
}


@contextmanager
def installed(backends: Mapping[str, str] = SHAPES) -> Iterator[None]:
    """Let `connect` know these schemes while the block runs.

    Args:
        backends: scheme -> the module that is its `unimsg.spi.Plugin`.
    """
    known = cast("dict[str, Any]", registry.BACKENDS)
    before = dict(known)
    known.update(backends)
    try:
        yield
    finally:
        known.clear()
        known.update(before)
