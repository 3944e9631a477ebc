"""sqlite: one file as a broker, for any number of processes on one machine; `sqlite:///messages.db`.

Law: what a `unimsg.spi.Plugin` has, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimsg.backends.sqlite.capabilities import declare
from unimsg.backends.sqlite.options import Options

if TYPE_CHECKING:
    from unimsg.backends.sqlite.backend import SqliteBackend

SCHEMES = ("sqlite",)
FACTS: Mapping[str, Any] = {
    "service": "one file",
    "protocols": (),
    "pricing": "none",
    "scaling": "one machine, one writer at a time",
    "licence": "SQLite: public domain",
}


def build(options: Options) -> SqliteBackend:
    """Return the backend of these options, without any I/O."""
    from unimsg.backends.sqlite.backend import SqliteBackend  # noqa: PLC0415 - loaded when it is used

    return SqliteBackend(options)


def native(delivery: Any) -> Any:  # noqa: ANN401 - a Delivery; this floor does not know it
    """Return the row that a delivery was made from: its token, counts and columns."""
    return delivery._received.native  # noqa: SLF001 - the one door to it


__all__ = ["FACTS", "SCHEMES", "Options", "build", "declare", "native"]
