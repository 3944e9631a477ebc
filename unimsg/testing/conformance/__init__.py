"""The proof kit: one catalogue of behaviours, written once, for every backend; a backend's test file is a fixture.

    class TestMine(Catalogue):
        @pytest.fixture
        async def world(self) -> AsyncIterator[World]:
            async with World("mine://localhost", environment="mine 1.0") as world:
                yield world

Law: for tests only. A test here knows the public API, the seam and `World`, never a backend. Capabilities choose: a
test that is gated by one runs where the backend declares it, and proves the refusal where it does not.
"""

from unimsg.testing.conformance.catalogue import Catalogue
from unimsg.testing.conformance.embedded import EmbeddedWorld
from unimsg.testing.conformance.gate import requires
from unimsg.testing.conformance.world import Interop, World

__all__ = ["Catalogue", "EmbeddedWorld", "Interop", "World", "requires"]
