"""Provisioning makes what is missing, says what it found, and deletes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import unimsg
from unimsg.errors import NotFoundError
from unimsg.spi import Topology

TOPOLOGY = Topology(destination="orders", groups=("billing",), dead_letter="orders-dead")
WHAT = [
    "destination orders",
    "destination orders-dead",
    "group billing",
    "group redrive of orders-dead",
]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_what_is_missing_is_made_once(backend: str, tmp_path: Path) -> None:
    """`existing` only looks, `ensure` creates, and then everything is there, the reader of dead letters too."""
    url = "memory://" if backend == "memory" else f"sqlite:///{tmp_path}/messages.db"
    async with unimsg.connect(url) as client:
        before = await client.provision(TOPOLOGY, mode="existing")
        made = await client.provision(TOPOLOGY)
        after = await client.provision(TOPOLOGY, mode="existing")

    assert sorted(drift.what for drift in made) == WHAT
    assert {drift.state for drift in before} == {"missing"}
    assert {drift.state for drift in made} == {"created"}
    assert [drift.state for drift in after] == ["present"] * 4


async def test_a_strict_client_works_on_what_was_provisioned() -> None:
    """With `create=false` a destination exists after it was made, not before."""
    async with unimsg.connect("memory://?create=false") as client:
        with pytest.raises(NotFoundError):
            await client.publish("orders", 1)
        await client.provision(TOPOLOGY)
        await client.publish("orders", 1)
