"""Mutants: what breaks a promise on purpose, and the test of the catalogue that must find it out.

Law: for tests only. A mutant replaces one method, of a backend at the seam or of the core, while a block runs. A test
that passes on its mutant proves nothing; a promise without one has no proof that its tests can fail.
"""

from unimsg.testing.mutants import backends, core_in, core_out, once
from unimsg.testing.mutants.mutant import ALL, STORE, Mutant, Patch

__all__ = ["ALL", "STORE", "Mutant", "Patch", "backends", "core_in", "core_out", "once"]
