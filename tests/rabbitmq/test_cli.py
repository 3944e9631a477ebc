"""The command line on a real RabbitMQ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operators_way import Shell, walk


@pytest.mark.timeout(180)
def test_an_operators_way(url: str, tmp_path: Path) -> None:
    """Each command does on RabbitMQ what it does elsewhere; an exchange gives to the groups that are made."""
    walk(Shell(url, tmp_path), told="at_least_once", groups=True)
