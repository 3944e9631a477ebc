"""One async Publisher/Subscriber API over many messaging services: the URL names the service, the code stays.

Law: what users import; nothing is defined here.
"""

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
# from unimsg.idempotency import idempotent
from unimsg.message import Message, Position, Receipt
from unimsg.policies.retry import RetryPolicy
from unimsg.publishing.publisher import Publisher
from unimsg.router import Router
# from unimsg.stores import store

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

    "options_schema",

]
