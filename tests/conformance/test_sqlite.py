"""SQLite, held to the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World


class TestSqlite(Catalogue):
    """A file for each test."""

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        url = f"sqlite:///{tmp_path}/messages.db"
        nowhere = f"sqlite:///{tmp_path}/nowhere.db?create=false"
        environment = "a file on a local disk"
        async with EmbeddedWorld(url, environment=environment, lease=0.5, nowhere=nowhere) as world:
            yield world
