"""The fault drill of sqlite: several processes on one file, some of them killed, and nothing is lost for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.conftest import Play


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file that is made by whoever comes first; a killed consumer's messages are free after two seconds."""
    return f"sqlite:///{tmp_path}/messages.db?lease=2s"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Where effects are noted, beside the messages."""
    return f"sqlite:///{tmp_path}/seen.db"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("once", [False, True], ids=["plain", "idempotent"])
async def test_a_small_drill(play: Play, url: str, store: str, once: bool) -> None:
    """Promises 1 to 6, 14, 23, 30: producers and consumers are killed all the time; the verdict holds."""
    verdict = await play(
        url,
        messages=2000,
        poison=0.01,
        work=0.01,
        kill_consumers=0.5,
        kill_producers=1.0,
        kills=6,
        patience=3.0,
        store=store if once else None,
    )

    assert verdict.violations == {}
    assert verdict.confirmed == 2000
    assert verdict.dead > 0
    assert verdict.kills["consumer"] > 0


@pytest.mark.drill
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_200_000_messages_and_a_kill_every_second(play: Play, url: str, seed: int) -> None:
    """I: three producers, three consumers, one consumer killed every second."""
    verdict = await play(url, messages=200_000, seed=seed)

    assert verdict.violations == {}
    assert verdict.confirmed == 200_000
    assert verdict.kills["consumer"] > 0


@pytest.mark.drill
@pytest.mark.timeout(1200)
async def test_producers_are_killed_too(play: Play, url: str) -> None:
    """I, promises 2 and 3: what a producer's death cut off is published again with its id, and is there once."""
    verdict = await play(url, messages=200_000, seed=4, kill_producers=1.5)

    assert verdict.violations == {}
    assert verdict.confirmed == 200_000
    assert verdict.cut > 0


@pytest.mark.drill
@pytest.mark.timeout(1200)
async def test_effects_are_noted(play: Play, url: str, store: str) -> None:
    """I, promise 30: with the decorator an effect is repeated only where a kill fell between it and its note."""
    verdict = await play(url, messages=200_000, seed=5, kill_producers=1.5, store=store)

    assert verdict.violations == {}
    assert verdict.confirmed == 200_000
