"""The table of handlers that do it wrong: the message must end among the dead letters, at once and with the reason.

Law: data; `tests/test_bad_input.py` runs each on `memory://`, `docs/reference/refusals.md` is written from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unimsg.consuming.delivery import Delivery


@dataclass(frozen=True)
class Returned:
    """What a handler does with a delivery that must end among the dead letters at once.

    Attributes:
        what: as a person would say it.
        handler: gives it.
        says: a part of the reason in the header of the dead letter.
    """

    what: str
    handler: Callable[[Delivery[Any]], Any]
    says: str


def returning(value: Any) -> Callable[[Delivery[Any]], Any]:
    """A handler that returns something."""

    async def returns(delivery: Delivery[Any]) -> Any:
        return value

    return returns


def raising(error: Exception) -> Callable[[Delivery[Any]], Any]:
    """A handler that cannot do it."""

    async def raises(delivery: Delivery[Any]) -> None:
        raise error

    return raises


async def publishing_nonsense(delivery: Delivery[Any]) -> None:
    await delivery.publish("receipts", object())


async def settling_twice(delivery: Delivery[Any]) -> None:
    await delivery.dead_letter("by hand")
    await delivery.ack()


RETURNED = [
    Returned("returns `True`", returning(True), "the handler returned bool; it must return None"),
    Returned("returns `0`", returning(0), "the handler returned int; it must return None"),
    Returned("returns `{'status': 'ok'}`", returning({"status": "ok"}), "the handler returned dict"),
    Returned("returns a class", returning(dict), "the handler returned type"),
    Returned("raises an error that is in `give_up_on`", raising(KeyError("id")), "KeyError: 'id'"),
    Returned(
        "publishes what cannot be encoded",
        publishing_nonsense,
        "EncodeError: memory 'receipts': the body, a object",
    ),
    Returned("calls `dead_letter` and then `ack`", settling_twice, "by hand"),
]
