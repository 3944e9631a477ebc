"""What every test shares: how hypothesis searches, and what a missing broker means.

Law: no product code is wrapped here; a fixture that only one folder needs lives in that folder.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a slow machine is no bug. CI repeats itself, a developer's machine searches.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeat", settings.get_profile("search"), derandomize=True, print_blob=True)
settings.load_profile("repeat" if os.environ.get("CI") else "search")


@pytest.fixture(scope="session")
def broker_url() -> BrokerURL:
    """Give the URL of a running broker; without one the test is skipped, in CI it fails."""
    return BrokerURL(os.environ)


class BrokerURL:
    """Finds the URL of a broker in the environment, or ends the test."""

    def __init__(self, environ: os._Environ[str] | dict[str, str]) -> None:
        self._environ = environ

    def __call__(self, backend: str) -> str:
        name = f"UNIMSG_TEST_{backend.upper()}_URL"
        url = self._environ.get(name)
        if url:
            return url
        if self._environ.get("CI"):
            pytest.fail(f"no {backend} broker: in CI that is a failure; set {name}", pytrace=False)
        pytest.skip(f"no {backend} broker: set {name}")
