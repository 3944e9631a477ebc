"""The demo as `make demo` runs it: processes and SIGKILL included, half a minute at most, on any service.

Law: its exit code says whether all its claims hold; one line of the table is looked at besides.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def play(url: str | None = None) -> None:
    """Play it on a service, on a file unless given; fails unless it is green.

    Args:
        url: of the service, where nobody else plays.
    """
    environment = {name: value for name, value in os.environ.items() if name != "UNIMSG_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "examples.earthquakes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment if url is None else environment | {"UNIMSG_URL": url},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ the table equals the one computed from the file" in done.stdout
    assert re.search(r"Southern California +386 ", done.stdout)
    assert done.stderr == ""
