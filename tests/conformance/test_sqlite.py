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
        async with EmbeddedWorld(url, environment="a file on a local disk", lease=0.5) as world:
            yield world
