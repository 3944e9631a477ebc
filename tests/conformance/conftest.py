"""Run each test several times in one run, for `make conformance-10`; keep together what is done to one broker.

Law: nothing of it is in the catalogue; a third party's tests know nothing of it.
"""

from __future__ import annotations

import os

import pytest

TIMES = int(os.environ.get("UNIMSG_REPEAT", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make as many tests of one as are asked for; each has a world of its own."""
    if TIMES > 1:
        metafunc.fixturenames.append("_time")
        metafunc.parametrize("_time", range(TIMES))


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of the catalogue that a backend wants marked: `MARKED` of its class has them by name."""
    for item in items:
        marked = getattr(getattr(item, "cls", None), "MARKED", {})
        for mark in marked.get(getattr(item, "originalname", ""), ()):
            item.add_marker(mark)
