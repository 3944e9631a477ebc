"""`python -m benchmarks [NAME ...] [--rounds N]`: measure, print the table, keep it, and write the page and its plot.

Law: each benchmark is a module here whose `run(rounds)` returns what it measured and the bars that must hold.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks import page, plot
from benchmarks.table import save, show

ALL = (
    "consume",
    "publish",
    "retry",
    "idempotent",
    "embedded",
    "imports",
    "kafka",
    "rabbitmq",
    "activemq",
    "sqs",
)


def main() -> int:
    """Run what was asked for; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], help="which to run; all unless given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--page", action="store_true", help="measure nothing, write the page from what is kept"
    )
    given = parser.parse_args()
    held = True
    for name in () if given.page else given.names or ALL:
        rows, bars = importlib.import_module(f"benchmarks.{name}").run(given.rounds)
        save(name, rows, bars)
        held &= show(rows, bars)
    page.write()
    plot.write()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
