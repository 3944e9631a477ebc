"""One worker process: runs the handlers until it is told to stop, and then says what it counted.

Law: settings come from the command line; the only output is one line of JSON, the counters by group.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import msgspec

import unimsg
from examples.earthquakes.handlers import NETWORKS, Outside, build, groups_of


async def main(url: str, store: str, effects: str, name: str) -> None:
    """Run until SIGTERM; what is running then may end."""
    logging.basicConfig(filename=f"{effects}.log", format="%(asctime)s %(process)d %(message)s")
    outside = Outside(Path(effects), name, NETWORKS)
    async with unimsg.connect(url) as client:
        await build(store, outside, groups_of(url)).run(client)
        counters = {str(loop.group): loop.counters for loop in client.health().subscribers}
    outside.close()
    print(msgspec.json.encode(counters).decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
