"""The command line on a real ActiveMQ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.operators_way import Shell, walk

pytestmark = pytest.mark.timeout(180)


def test_an_operators_way(broker_url: Callable[..., str], tmp_path: Path) -> None:
    """Each command does on ActiveMQ what it does elsewhere; STOMP drops no queue, so nobody listens in."""
    walk(Shell(broker_url("activemq"), tmp_path), told="at_least_once", groups=True, tails=False)
