"""The catalogue: all sections in one class, to be inherited by the test class of a backend.

Law: a list; what is proved stands in the sections.
"""

from __future__ import annotations

from unimsg.testing.conformance.a_lifecycle import Lifecycle
from unimsg.testing.conformance.i_faults import Faults


class Catalogue(Lifecycle, Faults):
    """Everything that a backend has to show; the letters are those of the design."""
