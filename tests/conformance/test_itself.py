"""The suite itself: its tests do not disturb each other, and its chance can be repeated.

Law: runs tests of the catalogue side by side on one broker, and reads their sources.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from unimsg.testing.conformance import Catalogue, EmbeddedWorld
from unimsg.testing.conformance.world import World

TIMES = 10
ALONE = {
    "test_a_second_signal_forces_the_end": "signals are the process's, and the main thread's",
    "test_an_id_is_stored_again_after_the_window": "a broker in memory has one window, that of its first client",
    "test_the_order_of_a_key_survives_batches_that_are_refused": "a deviation of memory",
    "test_an_unknown_end_holds_back_the_rest_of_its_key": "a deviation of memory",
    "test_a_hundred_clients_leave_no_task_thread_or_file_behind": "it counts what the process has open",
    "test_a_failure_is_logged_once_and_never_with_its_body": "it reads the log of the process",
}
"""What cannot share a process with others, and why."""
SAMPLE = 12


def together() -> list[str]:
    """The tests that may run side by side."""
    return sorted(name for name in dir(Catalogue) if name.startswith("test_") and name not in ALONE)


def side_by_side(names: list[str]) -> None:
    """Run these tests ten times at once, each time on a loop and a thread of its own, all on one broker."""
    url = f"memory://{uuid4().hex}"

    async def one(name: str) -> None:
        async with EmbeddedWorld(url, environment="in this process", lease=1.0) as world:
            try:
                await getattr(Catalogue(), name)(world)
            except pytest.skip.Exception:
                return

    def run(number: int) -> None:
        for name in (*names[number:], *names[:number]):
            asyncio.run(one(name))

    with ThreadPoolExecutor(TIMES) as pool:
        list(pool.map(run, range(TIMES)))


def test_a_sample_runs_ten_times_at_once() -> None:
    """M: names, groups and counters are each test's own; another sample each time, by a printed seed."""
    random = World(f"memory://{uuid4().hex}", environment="in this process").chance()

    side_by_side(random.sample(together(), SAMPLE))


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_all_of_it_runs_ten_times_at_once() -> None:
    """M: the same, whole."""
    side_by_side(together())


def sources() -> Iterator[tuple[str, str]]:
    """The files of the catalogue."""
    folder = Path(inspect.getfile(World)).parent
    for path in sorted(folder.glob("*.py")):
        yield path.name, path.read_text(encoding="utf-8")


def test_all_chance_comes_from_a_printed_seed() -> None:
    """M: a random test that cannot be repeated proves nothing to who mends it."""
    own = [
        name
        for name, text in sources()
        if name != "world.py" and re.search(r"\bRandom\(|^import random|import random$", text, re.MULTILINE)
    ]

    assert own == []


def test_the_seed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """M: what pytest shows of a failure is enough to repeat it."""
    world = World(f"memory://{uuid4().hex}", environment="in this process")
    first = world.chance()
    printed = re.search(r"UNIMSG_SEED=(\d+)", capsys.readouterr().out)

    assert printed is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIMSG_SEED", printed[1])
        assert world.chance().random() == first.random()
