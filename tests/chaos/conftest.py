"""What the drills of all backends share: playing a plan, and showing the report where it can be found again.

Law: fixtures only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import drill
from tests.chaos.judge import Verdict
from tests.chaos.plan import Plan

Play = Callable[..., Awaitable[Verdict]]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Give what puts the numbers of a drill where a person sees them."""

    def shown(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="")  # noqa: T201 - as above

    return shown


@pytest.fixture
def play(tmp_path: Path, show: Callable[[str], None]) -> Play:
    """Give what plays a plan in a folder of its own, prints its report and returns the verdict.

    When the verdict does not hold, the folder is what is to be looked at: it has the ledgers and every process's log.
    """

    async def played(
        url: str, *, disturb: Callable[[drill.Progress], Awaitable[None]] | None = None, **given: Any
    ) -> Verdict:
        plan = Plan(url=url, folder=str(tmp_path), **given)
        verdict = await drill.play(plan, disturb)
        show((tmp_path / "report.txt").read_text(encoding="utf-8"))
        return verdict

    return played
