"""Report: runs the catalogue, and writes the matrix of what is proved: capability, backend, environment, date.

Law: starts pytest and writes files; what holds is decided by the tests, what it says of them by `matrix`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unimsg.errors import ConfigError
from unimsg.testing.conformance import by_url
from unimsg.testing.conformance.matrix import Entry, Run, page, summary

BUILT_IN = ("memory://", "sqlite://")
"""What is run where nothing is named: each test in a world of its own."""
CONFIG = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
NAME = "conformance"
"""Of the two files that are written."""


def main(argv: Sequence[str]) -> int:
    """Run the catalogue as `unimsg conformance` was asked to; returns 0 when something ran and nothing failed.

    Args:
        argv: `run URL` shows what one backend holds, `report` writes the matrix; `--help` tells the rest.

    Raises:
        ConfigError: pytest could not run the tests; nothing was written.
    """
    asked, more = _parser().parse_known_args([argument for argument in argv if argument != "--"])
    orders = _orders(asked)
    outcomes = [order.run(more) for order in orders]
    runs = _runs(entry for entries, _ in outcomes for entry in entries)
    for run in runs:
        print(summary(run))  # noqa: T201 - a command shows what it found
    if asked.command == "report":
        write(asked.output, runs)
        print(f"written: {asked.output / NAME}.md and .json")  # noqa: T201 - as above
    return max(not runs, *(code for _, code in outcomes))


def write(folder: Path, runs: Iterable[Run]) -> None:
    """Write the matrix; runs of other backends and environments that stand there already are kept, with their dates."""
    file = folder / f"{NAME}.json"
    known: dict[tuple[str, str], Run] = {}
    if file.exists():
        known = {run.place: run for run in map(Run.from_json, json.loads(file.read_text(encoding="utf-8")))}
    known |= {run.place: run for run in runs}
    kept = [known[place] for place in sorted(known)]
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps([run.as_json() for run in kept], indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / f"{NAME}.md").write_text(page(kept), encoding="utf-8")


# ---------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unimsg conformance",
        description="Prove a backend by the catalogue of behaviours. Other arguments are for pytest.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", allow_abbrev=False, help="hold one backend to the catalogue and show the outcome"
    )
    run.add_argument("url", help=f"what connect takes; {' and '.join(BUILT_IN)} make a world for each test")
    _world(run)
    report = commands.add_parser(
        "report", allow_abbrev=False, help="run the catalogue and write the matrix of what is proved"
    )
    report.add_argument("--url", help="one backend by its URL, instead of the embedded ones")
    report.add_argument(
        "--tests",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="test files that inherit Catalogue; they know their environments themselves",
    )
    report.add_argument("--output", type=Path, default=Path("docs/reference"), metavar="FOLDER")
    _world(report)
    return parser


def _world(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment", metavar="TEXT", help="what runs there, as 'Apache Kafka 4.4, one node'"
    )
    parser.add_argument(
        "--tick", type=float, metavar="SECONDS", help="the shortest time that can be told apart"
    )
    parser.add_argument(
        "--lease", type=float, metavar="SECONDS", help="the shortest lease that can be asked for"
    )


def _settings(asked: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(asked, name) for name in ("url", "environment", "tick", "lease")}
    settings = {name: value for name, value in given.items() if value is not None}
    return {"environment": "not told", **settings}


# ---------------------------------------------------------------- pytest


@dataclass(frozen=True)
class Order:
    """One run of pytest: on test files, or on the catalogue for one URL."""

    arguments: Sequence[str] = ()
    world: Mapping[str, Any] | None = None

    def run(self, more: Sequence[str]) -> tuple[list[Entry], int]:
        """Return what was recorded, and pytest's exit code."""
        with tempfile.TemporaryDirectory() as folder:
            record, config = Path(folder, "record.json"), Path(folder, "pytest.ini")
            plugin = ["-p", "unimsg.testing.conformance.record", "--conformance-record", str(record)]
            arguments, environment = list(self.arguments), dict(os.environ)
            if self.world is not None:  # apart from whatever project stands around
                config.write_text(CONFIG, encoding="utf-8")
                arguments += ["-c", str(config), "--import-mode=importlib", "-p", "no:cacheprovider"]
                arguments.append(str(by_url.__file__))
                environment[by_url.VARIABLE] = json.dumps(dict(self.world))
            command = [sys.executable, "-m", "pytest", "-q", *plugin, *arguments, *more]
            ended = subprocess.run(command, env=environment, check=False)  # noqa: S603 - our own interpreter
            if ended.returncode not in (0, 1):
                raise ConfigError(f"pytest did not run through (exit code {ended.returncode}): see above")
            return json.loads(record.read_text(encoding="utf-8")), ended.returncode


def _orders(asked: argparse.Namespace) -> list[Order]:
    orders: list[Order] = []
    if getattr(asked, "tests", None):
        orders.append(Order(arguments=[str(path) for path in asked.tests]))
    if asked.url:
        orders.append(Order(world=_settings(asked)))
    return orders or [Order(world={"url": url}) for url in BUILT_IN]


def _runs(entries: Iterable[Entry]) -> list[Run]:
    """One run for each backend and environment among the entries."""
    runs: dict[tuple[str, str], Run] = {}
    for entry in entries:
        place = (entry["backend"], entry["environment"])
        if place not in runs:
            today = datetime.now(UTC).date().isoformat()
            runs[place] = Run(*place, date=today, capabilities=entry["capabilities"], tests=[])
        runs[place].tests.append(
            {name: entry[name] for name in ("test", "section", "gate", "outcome", "reason")}
        )
    for run in runs.values():
        run.tests.sort(key=lambda test: (test["section"], test["test"]))
    return list(runs.values())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
