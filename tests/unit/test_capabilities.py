"""Capabilities and needs: how they are compared, merged and lowered, and what a refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from unimsg.capabilities import FIELDS, SCALES, Capabilities, Lease, Needs, check, missing
from unimsg.errors import CapabilityError

FULL = Capabilities(
    ordering="total",
    delivery="transactional",
    dedup="producer",
    groups=True,
    replay="time",
    headers="native",
    delay="native",
    ttl=True,
    priority=True,
    dead_letter="native",
    lease=Lease(30.0),
    attempts="durable",
    durability="replicated",
    wildcard=True,
)
LEASE = Lease(10.0, extendable=False)


def asking(**fields: Any) -> Needs:
    return Needs(**fields)


def having(**fields: Any) -> Capabilities:
    return Capabilities(**fields)


def test_needs_and_capabilities_have_the_same_17_names() -> None:
    assert len(FIELDS) == 17
    assert Needs.__struct_fields__ == FIELDS


@pytest.mark.parametrize("field", SCALES)
def test_a_level_has_all_below_it_and_none_above(field: str) -> None:
    scale = SCALES[field]
    for need in scale:
        for have in scale:
            short = missing(asking(**{field: need}), having(**{field: have}))
            assert bool(short) is (scale.index(have) < scale.index(need)), (need, have)


@pytest.mark.parametrize("field", SCALES)
def test_a_level_that_is_none_is_refused_with_those_there_are(field: str) -> None:
    with pytest.raises(CapabilityError, match="is unknown: one of " + repr(SCALES[field][0])) as raised:
        asking(**{field: "sometimes"})
    assert raised.value.missing == (field,)


@pytest.mark.parametrize("field", ["groups", "ttl", "priority", "wildcard"])
def test_a_switch(field: str) -> None:
    assert missing(asking(**{field: True}), Capabilities()) == (field,)
    assert missing(asking(**{field: True}), FULL) == ()
    assert missing(asking(**{field: False}), Capabilities()) == ()


@pytest.mark.parametrize(
    ("need", "have", "short"),
    [
        ({"lease": True}, {}, True),
        ({"lease": False}, {}, False),
        ({"lease": True}, {"lease": LEASE}, False),
        ({"lease": 10}, {"lease": LEASE}, False),
        ({"lease": 11.0}, {"lease": LEASE}, True),
        ({"lease": 11.0}, {"lease": Lease(10.0)}, False),
        ({"retention": 60.0}, {"retention": 59.0}, True),
        ({"retention": 60.0}, {"retention": 60.0}, False),
        ({"retention": 60.0}, {"retention": None}, False),
        ({"max_message_bytes": 1000}, {"max_message_bytes": 999}, True),
        ({"max_message_bytes": 1000}, {"max_message_bytes": None}, False),
        ({"dedup_window": 60.0}, {"dedup": "window", "dedup_window": 59.0}, True),
        ({"dedup_window": 60.0}, {"dedup": "window", "dedup_window": 60.0}, False),
        ({"dedup_window": 60.0}, {"dedup": "producer"}, False),
        ({"dedup_window": 60.0}, {"dedup": "none"}, True),
        ({}, {}, False),
    ],
)
def test_numbers_and_leases(need: dict[str, Any], have: dict[str, Any], short: bool) -> None:
    assert bool(missing(asking(**need), having(**have))) is short


def test_what_is_missing_comes_in_the_order_of_the_fields() -> None:
    needs = Needs(wildcard=True, ordering="key", ttl=True)
    assert missing(needs, Capabilities()) == ("ordering", "ttl", "wildcard")


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ({"ordering": "key"}, {"ordering": "total"}, {"ordering": "total"}),
        ({"ordering": "key"}, {}, {"ordering": "key"}),
        ({}, {"groups": True}, {"groups": True}),
        ({"groups": False}, {"groups": True}, {"groups": True}),
        ({"retention": 5.0}, {"retention": 7.0}, {"retention": 7.0}),
        ({"lease": True}, {"lease": 60.0}, {"lease": 60.0}),
        ({"delay": "native"}, {"delay": "emulated"}, {"delay": "native"}),
    ],
)
def test_merged_needs_hold_when_both_hold(
    left: dict[str, Any], right: dict[str, Any], both: dict[str, Any]
) -> None:
    assert asking(**left).merge(asking(**right)) == asking(**both)
    assert asking(**right).merge(asking(**left)) == asking(**both)
    assert asking(**left).merge(None) == asking(**left)


# ---------------------------------------------------------------- the refusal


def refusal(needs: Needs, have: Capabilities, others: dict[str, Capabilities] | None = None) -> str:
    with pytest.raises(CapabilityError) as raised:
        check(needs, have, backend="plain", destination="orders", others=lambda: others or {})
    assert raised.value.backend == "plain"
    assert raised.value.destination == "orders"
    assert raised.value.missing == missing(needs, have)
    return str(raised.value)


def test_a_refusal_names_what_is_missing_what_took_it_and_who_has_it() -> None:
    lowered = Capabilities(ordering="key", durability="disk").lower("option acks=1", durability="memory")
    others = {"some": FULL, "other": Capabilities(), "more": FULL}
    assert refusal(Needs(durability="disk"), lowered, others) == (
        "plain 'orders': durability=disk is needed, durability=memory is what there is "
        "(taken by option acks=1); available with some, more"
    )


def test_a_refusal_says_all_of_it_at_once() -> None:
    text = refusal(Needs(ttl=True, lease=60.0), Capabilities(lease=LEASE), {"full": FULL})
    assert text == (
        "plain 'orders': ttl=True is needed, ttl=False is what there is; available with full. "
        "lease=60 is needed, lease=10s is what there is; available with full"
    )


def test_a_refusal_does_not_name_who_lacks_it_too() -> None:
    assert "available" not in refusal(Needs(ttl=True), Capabilities(), {"other": Capabilities()})


def test_others_are_asked_for_only_to_word_a_refusal() -> None:
    def asked() -> dict[str, Capabilities]:
        raise AssertionError("nothing is missing")

    check(Needs(ttl=True), FULL, backend="plain", others=asked)
    check(None, Capabilities(), backend="plain", others=asked)


def test_lowering_keeps_what_was_lowered_before() -> None:
    once = FULL.lower("option qos=0", delivery="at_most_once")
    twice = once.lower("option clean=true", replay="none", durability="memory")
    assert (twice.delivery, twice.replay) == ("at_most_once", "none")
    assert twice.lowered == {
        "delivery": "option qos=0",
        "replay": "option clean=true",
        "durability": "option clean=true",
    }
    assert FULL.lowered == {}
