"""The command line on a real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operators_way import Shell, walk


@pytest.mark.timeout(180)
def test_an_operators_way(url: str, tmp_path: Path) -> None:
    """Each command does on Kafka what it does elsewhere; a topic needs no groups made."""
    walk(Shell(url, tmp_path), told="a cluster of one broker", groups=False)
