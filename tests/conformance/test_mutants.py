"""The suite itself: each mutant is killed by the test named for it, and that test passes on what is not broken.

Law: runs tests of the catalogue by their names, once as they are and once on a mutant.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import unimsg
from unimsg.consuming.subscriber import Subscriber
from unimsg.stores import memory
from unimsg.testing import shapes
from unimsg.testing.clock import ManualClock
from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World
from unimsg.testing.conformance.stores import StoreCatalogue
from unimsg.testing.mutants import ALL, STORE, Mutant

LIMIT = 6.0
"""Seconds after which a mutant has made its test hang, which is a failure too."""
DRAIN = 1.0
"""Seconds that a stop may take here, with the control too: a stuck handler should not hold up the proof."""
SHORT = 2.0
"""Patience with a mutant: what does not come about is known not to."""


@asynccontextmanager
async def world_of(scheme: str, folder: Path) -> AsyncIterator[World]:
    """A fresh broker of a scheme."""
    where = {
        "memory": f"memory://{uuid4().hex}",
        "sqlite": f"sqlite:///{folder}/{uuid4().hex}.db",
        "fifolike": f"fifolike://{uuid4().hex}?wait=300ms",
        "loglike": f"loglike://{uuid4().hex}?drain=1s",
        "pushlike": f"pushlike://{uuid4().hex}",
    }
    leases = {"memory": 0.3, "sqlite": 0.5, "fifolike": 0.5}
    with shapes.installed():
        async with EmbeddedWorld(
            where[scheme], environment="in this process", lease=leases.get(scheme)
        ) as world:
            yield world


async def run(name: str, scheme: str, folder: Path) -> None:
    """Run a test of the catalogue, or a case of the stores."""
    if scheme == STORE:
        await run_on_store(getattr(StoreCatalogue(), name))
        return
    async with world_of(scheme, folder) as world:
        await getattr(Catalogue(), name)(world)


async def run_on_store(case: Callable[..., Awaitable[None]]) -> None:
    """Run a case with what it asks for, on a memory store."""
    rows, wanted = uuid4().hex, inspect.signature(case).parameters
    given: dict[str, Any] = {"stores": lambda: unimsg.store(f"memory://{rows}")}
    async with AsyncExitStack() as stack:
        if "clock" in wanted:
            given["clock"] = await stack.enter_async_context(ManualClock())
        if "client" in wanted:
            given["client"] = await stack.enter_async_context(
                unimsg.connect(f"memory://{uuid4().hex}?dedup=0s")
            )
        if "store" in wanted:
            given["store"] = await stack.enter_async_context(given["stores"]())
        await case(**{name: given[name] for name in wanted})
    memory.forget(rows)


@pytest.mark.parametrize("mutant", ALL, ids=[mutant.name.replace(" ", "-") for mutant in ALL])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_each_mutant_is_killed_by_the_test_named_for_it(
    mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M: the control passes, the mutant does not; a skip is no proof."""
    close = Subscriber.aclose
    monkeypatch.setattr(Subscriber, "aclose", lambda self, drain=DRAIN: close(self, drain))
    await run(mutant.killed_by, mutant.scheme, tmp_path)
    for name, module in list(sys.modules.items()):
        if name.startswith("unimsg.testing.conformance") and hasattr(module, "PATIENCE"):
            monkeypatch.setattr(module, "PATIENCE", SHORT)
    survived = await _survives(mutant, tmp_path)

    assert not survived, f"{mutant.name!r} ({mutant.breaks}) survived {mutant.killed_by}"


async def _survives(mutant: Mutant, folder: Path) -> bool:
    with mutant.alive():
        try:
            async with asyncio.timeout(LIMIT):
                await run(mutant.killed_by, mutant.scheme, folder)
        except pytest.skip.Exception:
            return True
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever failed, it was found out
            return False
        return True


def _is_test(name: str, value: Any) -> bool:
    return name.startswith("test_") and callable(value)


def test_every_mutant_names_a_test_that_there_is() -> None:
    """A renamed test must not take its mutant with it unseen."""
    for catalogue, stores in ((Catalogue, False), (StoreCatalogue, True)):
        known = {name for name in dir(catalogue) if _is_test(name, getattr(catalogue, name))}

        assert {mutant.killed_by for mutant in ALL if (mutant.scheme == STORE) == stores} <= known
    assert len({mutant.name for mutant in ALL}) == len(ALL)
