"""The catalogue: all sections in one class, to be inherited by the test class of a backend.

Law: a list; what is proved stands in the sections.
"""

from __future__ import annotations

from unimsg.testing.conformance.a_lifecycle import Lifecycle
from unimsg.testing.conformance.b_data import Data
from unimsg.testing.conformance.c_failures import PublishFailures
from unimsg.testing.conformance.c_publish import Publish
from unimsg.testing.conformance.d_delivery import Deliver
from unimsg.testing.conformance.d_positions import Positions
from unimsg.testing.conformance.e_leases import Leases
from unimsg.testing.conformance.e_settlement import Settlements
from unimsg.testing.conformance.f_ordering import Ordering
from unimsg.testing.conformance.g_dedup import Dedup
from unimsg.testing.conformance.h_policy import DeadLetters
from unimsg.testing.conformance.h_redrive import Redrive
from unimsg.testing.conformance.h_times import Times
from unimsg.testing.conformance.h_verdicts import Verdicts
from unimsg.testing.conformance.i_faults import Faults
from unimsg.testing.conformance.j_stop import Stop
from unimsg.testing.conformance.k_cancellation import Cancellation
from unimsg.testing.conformance.l_observability import Observability


class Catalogue(
    Lifecycle,
    Data,
    Publish,
    PublishFailures,
    Deliver,
    Positions,
    Settlements,
    Leases,
    Ordering,
    Dedup,
    DeadLetters,
    Verdicts,
    Redrive,
    Times,
    Faults,
    Stop,
    Cancellation,
    Observability,
):
    """Everything that a backend has to show; the letters are those of the design."""
