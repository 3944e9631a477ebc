"""The command line: what an operator and a shell do with unimsg.

Law: parses, calls the public API, prints; no policy. Needs the extra `cli`, and says so where that is missing.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name, and end the process with its code."""
    try:
        from unimsg.cli.app import app  # noqa: PLC0415 - only here may the extra be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.stderr.write(f"unimsg: the command line needs {error.name}: pip install 'unimsg[cli]'\n")
        raise SystemExit(2) from None
    app(prog_name="unimsg")
