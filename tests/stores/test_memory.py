"""The memory store, held to the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

import unimsg
from unimsg.idempotency import Store
from unimsg.stores import memory
from unimsg.testing.conformance.stores import StoreCatalogue


class TestMemoryStore(StoreCatalogue):
    """Rows in this process, of one name for each test."""

    @pytest.fixture
    def stores(self) -> Iterator[Callable[[], Store]]:
        name = uuid4().hex
        yield lambda: unimsg.store(f"memory://{name}")
        memory.forget(name)
