"""One async Publisher/Subscriber API over many messaging services: the URL names the service, the code stays.

Law: what users import; nothing is defined here, and each name loads its module when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimsg.capabilities import Capabilities, Needs
    from unimsg.client import Client, connect, options_schema
    from unimsg.consuming.delivery import Delivery
    from unimsg.consuming.subscriber import Subscriber
    from unimsg.errors import (
        CapabilityError,
        DeadLetter,
        Defer,
        Error,
        Fail,
        OutcomeUnknownError,
        PublishError,
    )
    from unimsg.idempotency import idempotent
    from unimsg.message import Message, Position, Receipt
    from unimsg.policies.retry import RetryPolicy
    from unimsg.publishing.publisher import Publisher
    from unimsg.router import Router
    from unimsg.stores import store

__all__ = [
    "Capabilities",
    "CapabilityError",
    "Client",
    "DeadLetter",
    "Defer",
    "Delivery",
    "Error",
    "Fail",
    "Message",
    "Needs",
    "OutcomeUnknownError",
    "Position",
    "PublishError",
    "Publisher",
    "Receipt",
    "RetryPolicy",
    "Router",
    "Subscriber",
    "connect",
    "idempotent",
    "options_schema",
    "store",
]

_HOMES = {
    "capabilities": ("Capabilities", "Needs"),
    "client": ("Client", "connect", "options_schema"),
    "consuming.delivery": ("Delivery",),
    "consuming.subscriber": ("Subscriber",),
    "errors": (
        "CapabilityError",
        "DeadLetter",
        "Defer",
        "Error",
        "Fail",
        "OutcomeUnknownError",
        "PublishError",
    ),
    "idempotency": ("idempotent",),
    "message": ("Message", "Position", "Receipt"),
    "policies.retry": ("RetryPolicy",),
    "publishing.publisher": ("Publisher",),
    "router": ("Router",),
    "stores": ("store",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for; type checkers read the block above
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'unimsg' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
