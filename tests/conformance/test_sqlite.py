"""SQLite, held to the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unimsg.testing.conformance import Catalogue, World, builtin


class TestSqlite(Catalogue):
    """A file for each test."""

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        async with builtin.sqlite(tmp_path) as world:
            yield world
