"""What is claimed is proved: each promise has a test that cites it, and a mutant that the test kills; the page says so.

Law: looks at docstrings and the list of mutants; runs nothing.
"""

from __future__ import annotations

import pytest

from docs import claims
from unimsg.testing.mutants import ALL

UNPROVED_BY_MUTANTS = {30}
"""No mutant: there is no transactional mode yet, and what is said of the decorator the fault drills hold."""


def test_the_page_is_not_stale() -> None:
    """`make docs` writes it."""
    assert claims.PAGE.read_text(encoding="utf-8") == claims.page(), "run `make docs`"


@pytest.mark.parametrize("number", claims.PROMISES)
def test_each_promise_is_cited_by_a_test(number: int) -> None:
    """A promise that nothing tests is a wish."""
    assert claims.citations()[number]


def test_no_test_cites_a_promise_that_there_is_not() -> None:
    """A wrong number proves nothing."""
    assert set(claims.citations()) <= set(claims.PROMISES)


def test_each_promise_has_a_mutant_or_is_known_to_have_none() -> None:
    """The list of those without is exact: it can only shrink unseen by nobody."""
    without = set(claims.PROMISES) - set(claims.mutants())

    assert without == UNPROVED_BY_MUTANTS


def test_the_test_of_a_mutant_cites_its_promise() -> None:
    """What kills a mutant claims what the mutant breaks."""
    cited = claims.citations()
    loose = [
        (mutant.name, number)
        for mutant in ALL
        for number in mutant.promises
        if mutant.killed_by not in {citation.test for citation in cited[number]}
    ]

    assert not loose
