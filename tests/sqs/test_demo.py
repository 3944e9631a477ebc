"""The demo on what has order at AWS: the table of `make demo`, out of topics, and out of a queue for its one group.

Law: as `make demo` runs it, processes and SIGKILL included; half a minute each, so in the drills.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sqs.worlds import url_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.drill
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("scheme", "more"), [("sns+fifo", ""), ("sqs+fifo", "&group=catalogue")])
def test_the_demo_gives_its_table(endpoint: str, scheme: str, more: str) -> None:
    """Its exit code says that all claims hold, the table as the file has it among them; promises 1, 4, 5, 14, 25."""
    mine = f"&lease=3s&prefix=demo-{os.urandom(4).hex()}-"
    done = subprocess.run(
        [sys.executable, "-m", "examples.earthquakes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "UNIMSG_URL": url_of(endpoint, scheme, mine + more)},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ the table equals the one computed from the file (12 networks)" in done.stdout
    assert re.search(r"Southern California +386 ", done.stdout)
    assert done.stderr == ""
