"""What users' own tests import: deliveries made by hand, and a clock that stands still.

Law: for tests only; nothing of unimsg imports it.
"""

from unimsg.testing.clock import ManualClock
from unimsg.testing.delivery import HandMade, Settled, delivery, handle

__all__ = ["HandMade", "ManualClock", "Settled", "delivery", "handle"]
