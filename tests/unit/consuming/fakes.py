"""What the tests of the consuming parts share: deliveries made by hand."""

from __future__ import annotations

from typing import Any

from unimsg.consuming.delivery import Delivery
from unimsg.message import WireMessage
from unimsg.spi import Assignment, Received


class Home:
    """Takes the place of a loop where only names are asked."""

    destination = "orders"
    group = "billing"
    state = None


def delivery(
    seq: int = 0, *, key: str | None = None, assignment: Assignment | None = None, **facts: Any
) -> Delivery[Any]:
    """A delivery whose token is its number."""
    message = WireMessage(body=b"{}", key=key, id=facts.pop("id", f"id-{seq}"))
    received = Received(message=message, token=seq, lane=key, assignment=assignment, **facts)
    return Delivery(received, Home(), None, 1, seq)  # type: ignore[arg-type]  # a Home in all that is asked here
