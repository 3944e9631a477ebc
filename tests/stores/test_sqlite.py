"""The SQLite store, held to the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import unimsg
from unimsg.idempotency import Store
from unimsg.testing.conformance.stores import StoreCatalogue


class TestSqliteStore(StoreCatalogue):
    """Rows in one file for each test."""

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: unimsg.store(f"sqlite:///{tmp_path}/seen.db?synchronous=NORMAL")
