"""The worlds of the embedded backends, whole: for their own tests, and for `unimsg conformance`.

Law: here, and nowhere else in the kit, a backend is named.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from unimsg.testing.conformance.embedded import EmbeddedWorld

WHOLE = "a call stores all it was given before it returns: none fails while the next is under way"


def memory() -> EmbeddedWorld:
    """A broker in this process that nobody else uses."""
    return EmbeddedWorld(
        f"memory://{uuid4().hex}",
        environment="in this process",
        lease=0.3,
        deviations={
            "test_the_order_of_a_key_survives_batches_that_are_refused": WHOLE,
            "test_an_unknown_end_holds_back_the_rest_of_its_key": WHOLE,
        },
    )


def sqlite(folder: Path) -> EmbeddedWorld:
    """A file of its own in a folder."""
    return EmbeddedWorld(
        f"sqlite:///{folder}/messages.db",
        environment="a file on a local disk",
        lease=0.5,
        nowhere=f"sqlite:///{folder}/nowhere.db?create=false",
    )
