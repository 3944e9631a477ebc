"""The report says what the tests said: of what held, what was refused, what could not be shown, what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unimsg.errors import ConfigError
from unimsg.testing.conformance import report
from unimsg.testing.conformance.matrix import Run, page, summary

TESTS = """
from collections.abc import AsyncIterator

import pytest

from unimsg.testing.conformance import World, requires
from unimsg.testing.conformance.gate import Section


class TestMine(Section):
    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with World("memory://", environment="here", deviations={"test_c": "no | room"}) as world:
            yield world

    @requires(ordering="key")
    async def test_a(self, world: World) -> None:
        pass

    @requires(wildcard=True)
    async def test_b(self, world: World) -> None:
        pass

    async def test_c(self, world: World) -> None:
        pass
"""
FAILS = """
    @requires(groups=True)
    async def test_d(self, world: World) -> None:
        assert world.environment == "there", "it was not"
"""


def run_of(backend: str, date: str = "2026-01-02", **outcomes: str) -> Run:
    tests = [
        {"test": name, "section": "A", "gate": {"groups": True}, "outcome": outcome, "reason": "because"}
        for name, outcome in outcomes.items()
    ]
    return Run(backend, "here", date, {"groups": True, "lease": {"seconds": 30.0}}, tests)


def written(folder: Path) -> Any:
    return json.loads((folder / "conformance.json").read_text(encoding="utf-8"))


def project(folder: Path, tests: str) -> Path:
    """A third party's test file, with its own settings for pytest."""
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n", encoding="utf-8")
    (folder / "test_mine.py").write_text(tests, encoding="utf-8")
    return folder / "test_mine.py"


def test_each_outcome_is_written_down(tmp_path: Path) -> None:
    """With its gate and its reason; also when several processes run the tests."""
    out = tmp_path / "out"

    code = report.main(
        ["report", "--tests", str(project(tmp_path, TESTS)), "--output", str(out), "--", "-n", "2"]
    )

    (run,) = written(out)
    assert code == 0
    assert (run["backend"], run["environment"], run["capabilities"]["ordering"]) == ("memory", "here", "key")
    assert [(t["test"], t["outcome"], t["gate"], t["reason"]) for t in run["tests"]] == [
        ("test_a", "held", {"ordering": "key"}, ""),
        ("test_b", "refused", {"wildcard": True}, ""),
        ("test_c", "cannot", {}, "no | room"),
    ]
    assert "| cannot | c | no \\| room |" in (out / "conformance.md").read_text(encoding="utf-8")


def test_what_fails_is_said_and_fails_the_command(tmp_path: Path) -> None:
    """It stands in the matrix as what it is."""
    out = tmp_path / "out"

    code = report.main(["report", "--tests", str(project(tmp_path, TESTS + FAILS)), "--output", str(out)])

    (run,) = written(out)
    (failed,) = [test for test in run["tests"] if test["outcome"] == "failed"]
    assert code == 1
    assert (failed["test"], failed["gate"]) == ("test_d", {"groups": True})
    assert "it was not" in failed["reason"]


def test_an_embedded_backend_is_run_by_its_url(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written; the last line counts."""
    code = report.main(["run", "sqlite://", "--", "-k", "closing_twice or too_many_headers"])

    assert code == 0
    assert capfd.readouterr().out.splitlines()[-1].endswith("): 2 held")


def test_any_backend_is_run_by_its_url(capfd: pytest.CaptureFixture[str]) -> None:
    """With the environment that is told."""
    code = report.main(["run", "memory://shared", "--environment", "a room", "--", "-k", "closing_twice"])

    assert code == 0
    assert capfd.readouterr().out.splitlines()[-1] == "memory (a room): 1 held"


def test_nothing_to_run_is_no_success(tmp_path: Path) -> None:
    """A matrix of nothing would be a claim; a broker that is not there is nothing."""
    skips = "import pytest\npytest.skip('no broker', allow_module_level=True)\ndef test_x(): pass\n"
    mine = project(tmp_path, skips)
    (tmp_path / "test_other.py").write_text("def test_without_a_world(): pass\n", encoding="utf-8")

    assert report.main(["report", "--tests", str(mine.parent), "--output", str(tmp_path / "out")]) == 1
    with pytest.raises(ConfigError, match="exit code 5"):
        report.main(["run", "memory://", "--", "-k", "there_is_no_such_test"])


def test_a_new_run_replaces_the_old_one_of_its_place_only(tmp_path: Path) -> None:
    """Others stay, with their dates: a person with an account runs some of them once in a while."""
    report.write(tmp_path, [run_of("sqs", "2026-01-01", test_x="held"), run_of("memory", "2026-01-01")])
    report.write(tmp_path, [run_of("memory", "2026-02-02", test_x="refused")])

    assert [(run["backend"], run["date"]) for run in written(tmp_path)] == [
        ("memory", "2026-02-02"),
        ("sqs", "2026-01-01"),
    ]


def test_the_page_has_a_column_for_each_run() -> None:
    """Capability by capability, section by section, and what was not shown."""
    text = page(
        [run_of("memory", test_x="held", test_y="held", test_z="cannot"), run_of("sqs", test_x="refused")]
    )

    assert "| groups | yes: 2 held, 1 cannot | yes: 1 refused |" in text
    assert "| lease | 30 s | 30 s |" in text
    assert "| A: lifecycle | 2 held, 1 cannot | 1 refused |" in text
    assert "## Not shown by `memory`, here" in text
    assert "## Not shown by `sqs`" not in text
    assert summary(run_of("sqs", test_x="failed", test_y="held")) == "sqs (here): 1 held, 1 failed"
