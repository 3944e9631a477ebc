"""The way of an operator on a command line: from the first destination to dead letters that go back, on any service.

Law: the commands of a shell, as processes, the URL in their environment; what each prints stands in `tests/unit/cli`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROUTER = """
import os
import unimsg

router = unimsg.Router()

@router.on(os.environ["PLACE"], group=os.environ["GROUP"], dead_letter=os.environ["PLACE"] + "-dead",
           retry=unimsg.RetryPolicy(max_attempts=1))
async def handle(delivery: unimsg.Delivery) -> None:
    print(delivery.body["id"], flush=True)
    if delivery.body["id"] == 1:
        raise ValueError("not this one")
"""


class Shell:
    """Starts commands in a folder with a program; `{PLACE}` and `{GROUP}` are names that nobody else uses."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / "app.py").write_text(ROUTER)
        suffix = os.urandom(4).hex()
        self._named = {"UNIMSG_URL": url, "PLACE": f"cli-{suffix}", "GROUP": f"crew-{suffix}"}
        self._environment = os.environ | self._named | {"PYTHONPATH": f"{folder}:{Path.cwd()}"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start one."""
        given = [argument.format(**self._named) for argument in arguments]
        return subprocess.Popen(
            [sys.executable, "-m", "unimsg", *given],
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def done(self, *arguments: str, stdin: str = "") -> str:
        """Run one to its good end and return what it printed."""
        process = self.start(*arguments)
        out, error = process.communicate(stdin)
        assert process.returncode == 0, error
        return out


def lines(text: str) -> list[Any]:
    """Return the bodies that were printed."""
    return [json.loads(line)["body"] for line in text.splitlines()]


def walk(shell: Shell, *, told: str, groups: bool, tails: bool = True) -> None:
    """Provision, publish, consume, run until a signal, redrive, tail.

    Args:
        shell: of the service.
        told: a part of what `capabilities --open` says of it.
        groups: whether groups are provisioned: then only those get what is published.
        tails: whether one can listen in, and leave nothing behind.
    """
    wanted = ("-g", "{GROUP}", "-g", "{GROUP}-look") if groups else ()
    made = shell.done("provision", "{PLACE}", *wanted, "--dead-letter", "{PLACE}-dead", "--json")
    assert {drift["state"] for drift in json.loads(made)} == {"created"}
    assert told in shell.done("capabilities", "{UNIMSG_URL}", "--open")

    shell.done("publish", "{PLACE}", stdin='{"body":{"id":1},"key":"k"}\n{"body":{"id":2},"key":"k"}\n')
    seen = lines(shell.done("consume", "{PLACE}", "-g", "{GROUP}-look", "--until-idle"))
    assert seen == [{"id": 1}, {"id": 2}]

    running = shell.start("run", "app:router")
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate()
    assert (running.returncode, "was dead-lettered" in said) == (0, True)

    moved = json.loads(shell.done("redrive", "{PLACE}-dead", "-g", "{GROUP}", "--json"))
    assert (moved["redriven"], moved["errors"]) == (1, {"ValueError": 1})
    assert lines(shell.done("consume", "{PLACE}", "-g", "{GROUP}", "--until-idle")) == [{"id": 1}]

    tail = shell.start("tail", "{PLACE}", "--max", "1")
    if not tails:
        _, said = tail.communicate()
        assert (tail.returncode != 0, "cannot be dropped" in " ".join(said.split())) == (True, True)
        return
    while tail.poll() is None:
        shell.done("publish", "{PLACE}", stdin='{"body":"new"}\n')
    assert lines(tail.communicate()[0]) == ["new"]
