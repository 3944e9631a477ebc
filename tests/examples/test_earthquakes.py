"""The demo ends green, and its verdict can fail: each claim is broken once and only that claim goes red.

Law: the story is made by hand from the file, except in the last test, which runs the demo as `make demo` does.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from examples.earthquakes import feed, verdict
from examples.earthquakes.handlers import ALERT, GROUPS, Effect
from tests import demo

Story = verdict.Story
Letter = verdict.Letter


def letters(bodies: Sequence[bytes], reason: str) -> list[Letter]:
    """Dead letters, each with an id of its own."""
    return [Letter(str(number), body, reason) for number, body in enumerate(bodies)]


def perfect() -> Story:
    """What happens when nothing goes wrong."""
    repaired = [
        line for line, quake in zip(feed.lines(), feed.quakes(), strict=True) if verdict.forgotten(quake)
    ]
    return Story(
        published=2 * len(feed.lines()) + len(feed.MALFORMED),
        dead={
            "catalogue": letters(feed.MALFORMED, "not JSON") + letters(repaired, "exhausted"),
            "alerts": letters(feed.MALFORMED, "not JSON"),
        },
        redriven=len(repaired),
        effects=[
            Effect(group, "two", 1, quake, group == "alerts" and quake.properties.mag >= ALERT)
            for group in GROUPS
            for quake in feed.quakes()
        ],
        counted={group: Counter(duplicates=len(feed.quakes())) for group in GROUPS},
        killed=["one"],
        exits={"two": 0},
        seconds=1.0,
    )


def red(story: Story) -> list[str]:
    """The claims that do not hold."""
    return [check.claim.partition(":")[0] for check in verdict.checks(story) if not check.holds]


def test_a_dead_letter_may_be_there_twice_only_where_nobody_recognises_it() -> None:
    """At least once: a copy has the same id and body; another body, or another id, is another letter."""
    story = perfect()
    first = story.dead["alerts"][0]
    claim = "dead letters"

    def with_one_more(letter: Letter, *, recognised: bool) -> Story:
        dead = {**story.dead, "alerts": [*story.dead["alerts"], letter]}
        return dataclasses.replace(story, dead=dead, recognised=recognised)

    assert red(with_one_more(first, recognised=False)) == []
    assert red(with_one_more(first, recognised=True)) == [claim]
    assert red(with_one_more(first._replace(id="x"), recognised=False)) == [claim]
    assert red(with_one_more(first._replace(body=b"x"), recognised=False)) == [claim]


def test_the_feed_is_the_week() -> None:
    """The file is whole, and the three malformed lines are in the first poll only."""
    assert len(feed.quakes()) == len({quake.id for quake in feed.quakes()}) == 1707
    assert len(list(feed.poll(with_malformed=True))) == 1710
    assert len(list(feed.poll(with_malformed=False))) == 1707


def test_a_perfect_story_is_green() -> None:
    """Else the next test would prove nothing."""
    assert red(perfect()) == []


def without_one(story: Story) -> Story:
    return dataclasses.replace(story, effects=story.effects[:-1])


def swapped(story: Story) -> Story:
    """Two neighbours of one network change places."""
    effects = list(story.effects)
    first = next(n for n, effect in enumerate(effects) if effect.quake.properties.net == "ci")
    second = next(n for n in range(first + 1, len(effects)) if effects[n].quake.properties.net == "ci")
    effects[first], effects[second] = effects[second], effects[first]
    return dataclasses.replace(story, effects=effects)


def twice(story: Story) -> Story:
    return dataclasses.replace(story, effects=[*story.effects, story.effects[0]])


def stranger(story: Story) -> Story:
    quake = feed.Quake("xx1", feed.Properties("ci", 1.0, "nowhere"))
    return dataclasses.replace(story, effects=[*story.effects, Effect("catalogue", "two", 1, quake)])


def unnoticed(story: Story) -> Story:
    return dataclasses.replace(story, counted={"alerts": Counter(duplicates=1706 + 1707)})


def one_dead_letter_less(story: Story) -> Story:
    return dataclasses.replace(story, dead={**story.dead, "alerts": story.dead["alerts"][1:]})


def changed_dead_letter(story: Story) -> Story:
    return dataclasses.replace(
        story, dead={**story.dead, "alerts": [*story.dead["alerts"][1:], Letter("x", b"{}", "?")]}
    )


def silent(story: Story) -> Story:
    return dataclasses.replace(
        story,
        dead={**story.dead, "catalogue": [letter._replace(reason="?") for letter in story.dead["catalogue"]]},
    )


def leftover(story: Story) -> Story:
    return dataclasses.replace(story, left=1)


def crashed(story: Story) -> Story:
    return dataclasses.replace(story, exits={"two": 1})


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        (without_one, "nothing lost"),
        (swapped, "in order"),
        (twice, "once"),
        (stranger, "nothing invented"),
        (unnoticed, "the second poll was recognised, every event of it"),
        (one_dead_letter_less, "dead letters"),
        (changed_dead_letter, "dead letters"),
        (silent, "each says why"),
        (leftover, "stopped in order, and nothing was left"),
        (crashed, "stopped in order, and nothing was left"),
    ],
)
def test_each_claim_can_fail(spoil: Callable[[Story], Story], claim: str) -> None:
    """A check that cannot fail proves nothing."""
    assert claim in red(spoil(perfect()))


def test_a_repetition_is_excused_by_a_kill_only() -> None:
    """What the killed worker did and could not note may happen again; nothing else may (promise 30)."""
    story = perfect()
    first = story.effects[0]
    effects = [Effect(first.group, "one", 1, first.quake), *story.effects]

    assert red(dataclasses.replace(story, effects=effects)) == []
    assert "once" in red(dataclasses.replace(story, effects=effects, killed=[]))


def test_the_demo_is_green() -> None:
    """`make demo`: real processes, SIGKILL, one file; half a minute at most, the exit code says whether all holds."""
    demo.play()
