"""The command line on a real Kafka: the way of an operator, from the first topic to dead letters that go back.

Law: the commands of a shell, as processes, the URL in their environment; what each prints stands in `tests/unit/cli`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(180)

ROUTER = """
import os
import unimsg

router = unimsg.Router()

@router.on(os.environ["TOPIC"], group=os.environ["GROUP"], dead_letter=os.environ["TOPIC"] + "-dead",
           retry=unimsg.RetryPolicy(max_attempts=1))
async def handle(delivery: unimsg.Delivery) -> None:
    print(delivery.body["id"], flush=True)
    if delivery.body["id"] == 1:
        raise ValueError("not this one")
"""
Shell = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def shell(url: str, group: str, tmp_path: Path) -> Shell:
    """Give what starts a command."""
    (tmp_path / "app.py").write_text(ROUTER)
    named = {"UNIMSG_URL": url, "TOPIC": f"cli-{os.urandom(4).hex()}", "GROUP": group}
    environment = os.environ | named | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        given = [argument.format(**named) for argument in arguments]
        return subprocess.Popen(
            [sys.executable, "-m", "unimsg", *given],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def test_an_operators_way(shell: Shell) -> None:
    """Provision, publish, consume, run until a signal, redrive, tail: each does on Kafka what it does elsewhere."""

    def done(*arguments: str, stdin: str = "") -> str:
        process = shell(*arguments)
        out, error = process.communicate(stdin)
        assert process.returncode == 0, error
        return out

    def lines(text: str) -> list[Any]:
        return [json.loads(line)["body"] for line in text.splitlines()]

    made = done("provision", "{TOPIC}", "--dead-letter", "{TOPIC}-dead", "--json")
    assert {drift["state"] for drift in json.loads(made)} == {"created"}
    assert "a cluster of one broker" in done("capabilities", "{UNIMSG_URL}", "--open")

    done("publish", "{TOPIC}", stdin='{"body":{"id":1},"key":"k"}\n{"body":{"id":2},"key":"k"}\n')
    assert lines(done("consume", "{TOPIC}", "-g", "{GROUP}-look", "--until-idle")) == [{"id": 1}, {"id": 2}]

    running = shell("run", "app:router")
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate()
    assert (running.returncode, "was dead-lettered" in told) == (0, True)

    moved = json.loads(done("redrive", "{TOPIC}-dead", "-g", "{GROUP}", "--json"))
    assert (moved["redriven"], moved["errors"]) == (1, {"ValueError": 1})
    assert lines(done("consume", "{TOPIC}", "-g", "{GROUP}", "--until-idle")) == [{"id": 1}]

    tail = shell("tail", "{TOPIC}", "--max", "1")
    while tail.poll() is None:
        done("publish", "{TOPIC}", stdin='{"body":"new"}\n')
    assert lines(tail.communicate()[0]) == ["new"]
