"""Services: which brokers there are, how one is begun in a folder, and how one that runs is found again.

Law: a broker is a module of this package with `start(folder, cache) -> Running`. What runs is noted in
`.brokers/NAME/running.json`; downloads are kept in `.brokers/cache`.
"""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import cast

from tools.brokers.process import Process, Running

SERVICES = ("kafka", "rabbitmq", "activemq", "ministack")
"""What `make test` starts."""
DRILLS = ("elasticmq",)
"""What `make drills` starts besides: a second opinion, which `make test` does not wait for."""
KNOWN = (*SERVICES, *DRILLS)
HOME = Path(__file__).resolve().parents[2] / ".brokers"


def begin(name: str, folder: Path) -> Running:
    """Start a broker in a folder, emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return cast("Running", import_module(f"tools.brokers.{name}").start(folder, HOME / "cache"))


def note(name: str, running: Running) -> None:
    """Write down what runs."""
    told = {"environment": running.environment, "processes": running.processes}
    (HOME / name / "running.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def found(name: str) -> Running | None:
    """The broker that was noted, if it still runs."""
    path = HOME / name / "running.json"
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    running = Running(told["environment"], [Process(*process) for process in told["processes"]])
    return running if all(process.alive for process in running.processes) else None
