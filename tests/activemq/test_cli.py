"""The command line on a real ActiveMQ: the way of an operator, from the first topic to dead letters that go back.

Law: the commands of a shell, as processes, as in `tests/rabbitmq/test_cli.py`; here nothing can be dropped again.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.rabbitmq import test_cli
from tests.rabbitmq.test_cli import Shell

pytestmark = [pytest.mark.pending, pytest.mark.timeout(180)]  # the backend is not finished: `make pending`


@pytest.fixture
def url(broker_url: Callable[..., str]) -> str:
    """The broker in plain text."""
    return broker_url("activemq")


shell = test_cli.shell


def done(process: Any, stdin: str = "") -> str:
    """Wait for the end of a command that ends well."""
    out, error = process.communicate(stdin)
    assert process.returncode == 0, error
    return str(out)


def bodies(text: str) -> list[Any]:
    return [json.loads(line)["body"] for line in text.splitlines()]


def test_an_operators_way(shell: Shell) -> None:
    """Provision, publish, run until a signal, redrive, consume: each does here what it does elsewhere."""
    made = done(shell("provision", "{PLACE}", "-g", "{GROUP}", "--dead-letter", "{PLACE}-dead", "--json"))
    assert {drift["state"] for drift in json.loads(made)} == {"created"}
    assert "at_least_once" in done(shell("capabilities", "{UNIMSG_URL}", "--open"))
    done(shell("publish", "{PLACE}"), '{"body":{"id":1},"key":"k"}\n{"body":{"id":2},"key":"k"}\n')

    running = shell("run", "app:router")
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate()
    assert (running.returncode, "was dead-lettered" in told) == (0, True)

    moved = json.loads(done(shell("redrive", "{PLACE}-dead", "-g", "{GROUP}", "--json")))
    assert (moved["redriven"], moved["errors"]) == (1, {"ValueError": 1})
    assert bodies(done(shell("consume", "{PLACE}", "-g", "{GROUP}", "--until-idle"))) == [{"id": 1}]


def test_a_tail_is_refused_since_its_queue_would_stay(shell: Shell) -> None:
    """STOMP drops no queue, and one that nobody reads would keep every message for ever."""
    process = shell("tail", "{PLACE}", "--max", "1")
    _, told = process.communicate()
    assert process.returncode != 0
    assert "cannot be dropped" in told.replace("\n", " ")
