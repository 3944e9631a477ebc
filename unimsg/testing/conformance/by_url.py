"""The catalogue for one URL, which the report gives in the environment; pytest runs this file.

Law: a fixture, as the test file of any backend is. The embedded backends have a world of their own for each test.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unimsg.testing.conformance import Catalogue, World, builtin

VARIABLE = "UNIMSG_CONFORMANCE"
"""JSON: the arguments of `World`."""


def chosen(folder: Path) -> World:
    """Return the world that was asked for."""
    settings = json.loads(os.environ[VARIABLE])
    if settings["url"] == "memory://":
        return builtin.memory()
    if settings["url"] == "sqlite://":
        return builtin.sqlite(folder)
    return World(settings.pop("url"), **settings)


class TestByUrl(Catalogue):
    """Whatever the URL leads to."""

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        """One for each test; what is made in it has names that nobody else uses."""
        async with chosen(tmp_path) as world:
            yield world
