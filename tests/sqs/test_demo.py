"""The demo on what has order at AWS: the table of `make demo`, out of topics, and out of a queue for its one group.

Law: half a minute each, so in the drills.
"""

from __future__ import annotations

import os

import pytest

from tests import demo
from tests.sqs.worlds import url_of


@pytest.mark.drill
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("scheme", "more"), [("sns+fifo", ""), ("sqs+fifo", "&group=catalogue")])
def test_the_demo_gives_its_table(endpoint: str, scheme: str, more: str) -> None:
    """As on a file; promises 1, 4, 5, 14, 25."""
    demo.play(url_of(endpoint, scheme, f"&lease=3s&prefix=demo-{os.urandom(4).hex()}-{more}"))
