"""Gates: which tests a backend is given, by what it declares; what it does not declare it must refuse.

Law: decides by capabilities and by what a world cannot show; knows no backend.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from msgspec import to_builtins

import unimsg
from unimsg.capabilities import FIELDS, Needs, missing
from unimsg.errors import CapabilityError
from unimsg.testing.conformance.world import World

Test: TypeAlias = Callable[[Any, World], Awaitable[None]]
FACTS = "unimsg-conformance"
"""The property of a test by which the report finds it."""


class Section:
    """A part of the catalogue; what a world cannot show is skipped there with the reason it gives."""

    @pytest.fixture(autouse=True)
    def _deviation(self, request: pytest.FixtureRequest, world: World) -> None:
        request.node.user_properties.append((FACTS, facts(request.function, world)))
        if why := world.deviations.get(request.function.__name__):
            world.cannot(why)


def facts(test: Any, world: World) -> dict[str, Any]:
    """Return what the report says of a test, as far as is known before it runs."""
    asked = getattr(test, "needs", Needs())
    letter = test.__module__.rpartition(".")[2][:1].upper()
    return {
        "backend": world.options.scheme,
        "environment": world.environment,
        "capabilities": to_builtins({name: getattr(world.capabilities, name) for name in FIELDS}),
        "test": test.__name__,
        "section": letter,
        "gate": {name: need for name in FIELDS if (need := getattr(asked, name)) is not None},
        "lacks": missing(asked, world.capabilities),
    }


def requires(**needs: Any) -> Callable[[Test], Test]:
    """Run a test where these needs are met; elsewhere prove that asking for them is refused.

    Args:
        **needs: as in `unimsg.Needs`.
    """
    asked = Needs(**needs)

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        async def gated(self: Any, world: World) -> None:
            if missing(asked, world.capabilities):
                refused(world, asked)
            else:
                await test(self, world)

        gated.needs = asked  # type: ignore[attr-defined]  # what the report reads
        return gated

    return decorate


def refused(world: World, needs: Needs) -> None:
    """Prove that what the backend does not have is refused before any I/O, with a sentence that names it."""
    names = missing(needs, world.capabilities)
    with pytest.raises(CapabilityError) as raised:
        unimsg.connect(world.url, needs=needs)
    assert raised.value.missing == names
    for name in names:
        assert name in str(raised.value)
