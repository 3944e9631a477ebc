"""What users' own tests import: deliveries made by hand, and a clock that stands still.

Law: for tests only; nothing of unimsg imports it. Each name loads its module when it is first asked for, since pytest
loads this package for its plugin in every run, also of suites that do not use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimsg.testing.clock import ManualClock
    from unimsg.testing.handmade import HandMade, Settled, delivery, handle
    from unimsg.testing.strict import DeadLettered, Run, Strict

__all__ = ["DeadLettered", "HandMade", "ManualClock", "Run", "Settled", "Strict", "delivery", "handle"]

_HOMES = {
    "clock": ("ManualClock",),
    "handmade": ("HandMade", "Settled", "delivery", "handle"),
    "strict": ("DeadLettered", "Run", "Strict"),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'unimsg.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value
