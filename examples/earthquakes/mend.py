"""Mend: gives dead letters back to the destination they came from, once their handler can deal with them.

Law: public API. A redriven message carries the header that lets an idempotent handler run a failed key again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from unimsg import Client, Delivery, Message
from unimsg.codecs import BYTES

Dead = Message[bytes | None]


async def redrive(client: Client, source: str, *, to: str, group: str, only: Callable[[Dead], bool]) -> int:
    """Publish the dead letters for which `only` holds, for one group; the others stay. Returns how many."""
    publisher = client.publisher(to, codec=BYTES)
    given_back = 0

    async def give_back(delivery: Delivery[bytes | None]) -> None:
        nonlocal given_back
        if not only(delivery.message):
            return
        mark = msgspec.json.encode({"number": 1, "group": group}).decode()
        headers = {name: value for name, value in delivery.headers.items() if name != "unimsg-dead-letter"}
        again = msgspec.structs.replace(
            delivery.message,
            headers={**headers, "unimsg-redrive": mark},
            id=f"{delivery.id}-redrive-1",  # the old id is still known to a service that recognises duplicates
        )
        receipt = await publisher.publish_wire(again)
        given_back += not receipt.duplicate

    await client.subscriber(source, group="redrive", codec=BYTES, order="key").run_until_idle(give_back)
    return given_back
