"""Run each test several times in one run, for `make conformance-10`.

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
