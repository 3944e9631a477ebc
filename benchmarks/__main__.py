"""`python -m benchmarks [NAME ...] [--rounds N]`: measure, print the table, keep it under `benchmarks/results/`."""

from __future__ import annotations

import argparse
import sys

from benchmarks import consume, publish
from benchmarks.table import save, show

ALL = {"consume": consume.run, "publish": publish.run}


def main() -> int:
    """Run what was asked for; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], help="which to run; all unless given")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    held = True
    for name in given.names or ALL:
        rows, bars = ALL[name](given.rounds)
        save(name, rows)
        held &= show(rows, bars)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
