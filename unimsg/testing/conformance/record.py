"""Record: a pytest plugin that writes down how each test of the catalogue ended, for the report.

Law: looks on; it changes nothing of the run. Used as `-p unimsg.testing.conformance.record --conformance-record FILE`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unimsg.testing.conformance.gate import FACTS


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where to."""
    parser.addoption(
        "--conformance-record", metavar="FILE", type=Path, help="write the outcomes there, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Look on where the reports arrive: with several workers that is the one who has none of the tests."""
    file: Path | None = config.getoption("--conformance-record")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(file))


class Recorder:
    """Keeps one entry for each test that had a world."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._entries: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the outcome of a phase; a failure of any phase is the outcome of the test."""
        facts: Any = dict(report.user_properties).get(FACTS)
        if facts is None:
            return
        entry = self._entries.setdefault(report.nodeid, {**facts, "outcome": "", "reason": ""})
        if report.failed:
            entry |= {"outcome": "failed", "reason": _crash(report)}
        elif report.skipped:
            entry |= {"outcome": "cannot", "reason": _why(report, facts["environment"])}
        elif report.when == "call" and not entry["outcome"]:
            entry["outcome"] = "refused" if facts["lacks"] else "held"

    def pytest_sessionfinish(self) -> None:
        """Write them."""
        entries = [entry for entry in self._entries.values() if entry["outcome"]]
        self._file.write_text(json.dumps(entries), encoding="utf-8")


def _why(report: pytest.TestReport, environment: str) -> str:
    """The sentence of a skip."""
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ").removeprefix(f"{environment}: ")


def _crash(report: pytest.TestReport) -> str:
    """The first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(getattr(crash, "message", report.longrepr)).partition("\n")[0]
