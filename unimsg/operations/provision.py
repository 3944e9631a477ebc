"""Provision: make what a program needs exist, and say what was found.

Law: decides what is wanted; the backend makes it. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeAlias

from unimsg.operations.redrive import READER
from unimsg.spi import Drift, Topology

Mode: TypeAlias = Literal["existing", "assume", "ensure"]


def wanted(topology: Topology, *, groups: bool) -> Sequence[Topology]:
    """Return what must exist for a topology to work.

    A destination for dead letters also gets the group that redrive reads with, where the service has groups: some keep
    a message only for the groups that exist when it comes.
    """
    if topology.dead_letter is None or not groups:
        return (topology,)
    return topology, Topology(destination=topology.dead_letter, groups=(READER,))


async def provision(
    provide: Callable[[Topology, Mode], Awaitable[Sequence[Drift]]],
    topology: Topology,
    mode: Mode,
    *,
    groups: bool,
) -> list[Drift]:
    """Have the backend look at, or make, all that is wanted; one `Drift` for each thing."""
    found: dict[str, Drift] = {}
    for part in wanted(topology, groups=groups):
        for drift in await provide(part, mode):
            name = drift.what if part is topology else f"{drift.what} of {part.destination}"
            if drift.what == f"destination {part.destination}" and drift.what in found:
                continue
            found[name] = (
                drift if name == drift.what else Drift(what=name, state=drift.state, detail=drift.detail)
            )
    return list(found.values())
