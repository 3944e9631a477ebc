"""Effects that happen once: the decorator, and the contract of a store.

Law: what users and authors of stores import; nothing is defined here.
"""

from unimsg.idempotency.decorator import idempotent
from unimsg.idempotency.row import Row
from unimsg.idempotency.store import Answer, Ask, End, Grip, State, Store

__all__ = ["Answer", "Ask", "End", "Grip", "Row", "State", "Store", "idempotent"]
