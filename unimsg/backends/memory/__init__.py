"""memory: a broker in this process, for tests and small programs; `memory://` is private, `memory://name` shared.

Law: what a `unimsg.spi.Plugin` has, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.memory.capabilities import declare
from unimsg.backends.memory.options import Options

if TYPE_CHECKING:
    from unimsg.backends.memory.backend import MemoryBackend

SCHEMES = ("memory",)
FACTS: Mapping[str, Any] = {
    "service": "this process",
    "protocols": (),
    "pricing": "none",
    "scaling": "one process, one thread",
    "licence": "as this package",
}


def build(options: Options) -> MemoryBackend:
    """Return the backend of these options, without any I/O."""
    if options.duplicate or options.reorder or options.delay or options.fail:
        from unimsg.backends.memory.chaos import ChaosBackend  # noqa: PLC0415 - loaded when it is used

        return ChaosBackend(options)
    from unimsg.backends.memory.backend import MemoryBackend  # noqa: PLC0415 - loaded when it is used

    return MemoryBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return the record of the log that a delivery was made from."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
