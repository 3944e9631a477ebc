"""The proof kit of idempotency stores: every case on every store; a store's test file is a fixture.

    class TestMine(StoreCatalogue):
        @pytest.fixture
        def stores(self) -> Callable[[], Store]:
            return lambda: MyStore("mine://localhost")

Law: for tests only; a test knows the contract of `unimsg.idempotency.store` and the public API, never a store. The
numbers of the cases are those of the catalogue of corner cases, which `CASES` lists.
"""

from unimsg.testing.conformance.stores.begin import CASES
from unimsg.testing.conformance.stores.claims import Claims
from unimsg.testing.conformance.stores.duplicates import Duplicates
from unimsg.testing.conformance.stores.endings import Endings
from unimsg.testing.conformance.stores.failures import Failures
from unimsg.testing.conformance.stores.model import Model
from unimsg.testing.conformance.stores.trouble import Trouble


class StoreCatalogue(Claims, Endings, Model, Duplicates, Failures, Trouble):
    """Everything that a store has to show."""


__all__ = ["CASES", "StoreCatalogue"]
