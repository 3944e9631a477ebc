"""What a missing broker means: a skip on a laptop, a failure in CI; and that what hurts one broker stays together.

Law: what `conftest.py` has is proved here, with environments made by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CI_ENTRY = Path(__file__).resolve().parent.parent / ".ci" / "run"


def test_a_broker_is_named_by_the_environment(broker_url: Callable[..., str]) -> None:
    """`UNIMSG_TEST_<BACKEND>_URL` points at a broker of your own."""
    assert broker_url("kafka", {"UNIMSG_TEST_KAFKA_URL": "kafka://localhost"}) == "kafka://localhost"


def test_without_a_broker_a_laptop_skips(broker_url: Callable[..., str]) -> None:
    """The reason names the variable to set."""
    with pytest.raises(pytest.skip.Exception, match="UNIMSG_TEST_KAFKA_URL"):
        broker_url("kafka", {})


def test_without_a_broker_ci_fails(broker_url: Callable[..., str]) -> None:
    """A suite that skips what it came for must not be green."""
    with pytest.raises(pytest.fail.Exception, match="UNIMSG_TEST_KAFKA_URL"):
        broker_url("kafka", {"CI": "1"})


def test_the_ci_entry_says_that_it_is_ci() -> None:
    """The runner may not set the variable itself."""
    assert "\nexport CI=1" in CI_ENTRY.read_text(encoding="utf-8")


@pytest.mark.xdist_group("shown")
def test_what_is_marked_to_stay_together_does(request: pytest.FixtureRequest) -> None:
    """Else each worker would start a broker of its own for what hurts one, and the marks would say nothing."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("tests run one after the other here")
    assert request.node.nodeid.endswith("@shown")
