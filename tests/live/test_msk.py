"""Amazon MSK itself: what no broker on this machine can show. Run by a person with an account.

    UNIMSG_TEST_MSK_URL=msk://eu-west-1/cluster python -m pytest tests/live/test_msk.py -m live

Law: the topic `unimsg-live` exists or may be made; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import unimsg
from unimsg.spi import Topology

pytestmark = pytest.mark.live


async def test_the_cluster_is_found_and_takes_our_token(broker_url: Callable[..., str]) -> None:
    """Lookup, IAM, a message out and back, a commit."""
    got: list[Any] = []

    async def note(delivery: unimsg.Delivery[Any]) -> None:
        got.append(delivery.body)

    async with unimsg.connect(broker_url("msk"), needs=unimsg.Needs(durability="replicated")) as client:
        await client.provision(Topology(destination="unimsg-live"))
        receipt = await client.publish("unimsg-live", {"hello": "MSK"}, key="live")
        await client.subscriber("unimsg-live", group="unimsg-live").run_until_idle(note)
    assert receipt.position is not None
    assert {"hello": "MSK"} in got
