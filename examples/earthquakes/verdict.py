"""The verdict: compares what the handlers did with what the file says, and shows it.

Law: knows the file, the effects and the dead letters; trusts no counter where it can look for itself.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from examples.earthquakes import feed
from examples.earthquakes.handlers import ALERT, FORGOTTEN, GROUPS, NETWORKS, Effect


class Letter(NamedTuple):
    """One dead letter, as it was read."""

    id: str | None
    body: bytes | None
    reason: str


@dataclass(kw_only=True)
class Story:
    """What happened, as it was seen from outside.

    Attributes:
        groups: those that the service has here.
        published: confirmed publishes.
        recognised: the service knows a message again that is published twice; else a dead letter whose worker was
            killed before it could ack the original is there once more, with the same id.
        dead: the dead letters before the repair, by group.
        redriven: how many were given back after the repair.
        effects: all effects, in order.
        counted: counters by group.
        killed: names of the workers that were killed.
        exits: exit codes of those that were asked to stop.
        left: deliveries that came after everything was said to be done.
        seconds: from the first publish to the last stop.
    """

    groups: Sequence[str] = GROUPS
    published: int = 0
    recognised: bool = True
    dead: dict[str, list[Letter]] = field(default_factory=dict)
    redriven: int = 0
    effects: Sequence[Effect] = ()
    counted: Mapping[str, Counter[str]] = field(default_factory=dict)
    killed: Sequence[str] = ()
    exits: Mapping[str, int] = field(default_factory=dict)
    left: int = 0
    seconds: float = 0.0

    def total(self, name: str) -> int:
        """A counter over all groups."""
        return sum(counters[name] for counters in self.counted.values())

    def letters(self, group: str) -> Sequence[Letter]:
        """The dead letters of a group; equal copies count once where nobody recognises them."""
        found = self.dead.get(group, [])
        return (
            found
            if self.recognised
            else list({(letter.id, letter.body): letter for letter in found}.values())
        )


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds, and what was found."""

    claim: str
    holds: bool
    found: str


def checks(story: Story) -> Iterator[Check]:
    """Everything that the demo claims."""
    first, again = split(story.effects)
    wanted = {(group, net): ids for group in story.groups for net, ids in feed.order().items()}
    lost = sum(len(set(ids) - set(first.get(lane, ()))) for lane, ids in wanted.items())
    yield Check("nothing lost: every event had its effect in each group", not lost, f"{lost} missing")

    strange = sum(len(set(ids) - set(wanted.get(lane, ()))) for lane, ids in first.items())
    yield Check("nothing invented: no effect without an event", not strange, f"{strange} too many")

    wrong = [f"{group}/{net}" for (group, net), ids in wanted.items() if first.get((group, net)) != ids]
    yield Check(
        "in order: each network as the feed gave it", not wrong, ", ".join(wrong) or f"{len(wanted)} lanes"
    )

    excused = sum(effect.worker in story.killed for effect in again)
    text = f"{len(again)} repeated, {excused} of them cut off by the kill before they could be noted"
    yield Check("once: no event had a second effect, save what the kill cut off", excused == len(again), text)

    duplicates = story.total("duplicates")
    enough = duplicates >= len(story.groups) * len(feed.quakes())
    yield Check("the second poll was recognised, every event of it", enough, f"{duplicates:,} duplicates")

    yield from dead_letter_checks(story)
    if "catalogue" in story.groups:
        yield from catalogue_checks(story)
    if "alerts" in story.groups:
        alerts = sum(effect.alert for effect in unique(story.effects))
        strong = sum(quake.properties.mag >= ALERT for quake in feed.quakes())
        claim = f"an alert for each event of magnitude {ALERT} or more"
        yield Check(claim, alerts == strong, f"{alerts} alerts")

    stopped = bool(story.exits) and not any(story.exits.values()) and not story.left
    text = f"exit codes {sorted(story.exits.values())}, {story.left} left over"
    yield Check("stopped in order, and nothing was left", stopped, text)


def dead_letter_checks(story: Story) -> Iterator[Check]:
    """What was put aside, byte for byte."""
    repaired = [line for line, quake in zip(feed.lines(), feed.quakes(), strict=True) if forgotten(quake)]
    expected = {
        "catalogue": Counter([*feed.MALFORMED, *repaired]),
        "alerts": Counter(feed.MALFORMED),
    }
    same = all(
        Counter(letter.body for letter in story.letters(group)) == expected[group] for group in story.groups
    )
    copies = sum(len(letters) - len(story.letters(group)) for group, letters in story.dead.items())
    found = ", ".join(f"{len(story.letters(group))} in {group}" for group in story.dead)
    found += f", {copies} written again, with the same id" if copies else ""
    yield Check("dead letters: the malformed and the unknown, byte for byte", same, found)


def catalogue_checks(story: Story) -> Iterator[Check]:
    """What the group has that keeps the catalogue, and what its forgotten networks cost."""
    repaired = [quake for quake in feed.quakes() if forgotten(quake)]
    reasons = Counter(letter.reason for letter in story.letters("catalogue"))
    exhausted = sum(count for reason, count in reasons.items() if "exhausted" in reason)
    said = exhausted == len(repaired) and reasons.total() == len(repaired) + len(feed.MALFORMED)
    yield Check("each says why", said, f"{exhausted} exhausted, {reasons.total() - exhausted} undecodable")

    wanted = sum(letter.body not in feed.MALFORMED for letter in story.dead.get("catalogue", ()))
    yield Check("the repaired were redriven", story.redriven == wanted, f"{story.redriven} redriven")

    catalogue = feed.table([e.quake for e in unique(story.effects) if e.group == "catalogue"])
    same = catalogue == feed.table(feed.quakes())
    yield Check("the table equals the one computed from the file", same, f"{len(catalogue)} networks")


def forgotten(quake: feed.Quake) -> bool:
    """Whether the first version of the service did not know this network."""
    return quake.properties.net in FORGOTTEN


def split(effects: Sequence[Effect]) -> tuple[Mapping[tuple[str, str], list[str]], Sequence[Effect]]:
    """First effects by group and network, in order; and for each repeated effect the one it repeats."""
    lanes: dict[tuple[str, str], list[str]] = {}
    latest: dict[tuple[str, str], Effect] = {}
    again: list[Effect] = []
    for effect in effects:
        identity = effect.group, effect.quake.id
        if (before := latest.get(identity)) is not None:
            again.append(before)
        else:
            lanes.setdefault((effect.group, effect.quake.properties.net), []).append(effect.quake.id)
        latest[identity] = effect
    return lanes, again


def unique(effects: Sequence[Effect]) -> Sequence[Effect]:
    """First effects only."""
    found: dict[tuple[str, str], Effect] = {}
    for effect in effects:
        found.setdefault((effect.group, effect.quake.id), effect)
    return list(found.values())


def show(story: Story) -> bool:
    """Print the table, the numbers and the checks; return whether all hold."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    good, bad, bar = ("ok", "FAILED", "#") if plain else ("✓", "✗", "█")
    names = NETWORKS | FORGOTTEN
    rows = feed.table([e.quake for e in unique(story.effects) if e.group == "catalogue"])
    most = max((row.events for row in rows.values()), default=1)

    print(f"\n  {'network':<22}{'events':>7}{'strongest':>11}")
    for net, row in sorted(rows.items(), key=lambda item: -item[1].events):
        length = -(-row.events * 30 // most)
        print(f"  {names.get(net, net):<22}{row.events:>7,}{row.strongest:>11.1f}  {bar * length}")

    rate = story.total("received") / story.seconds if story.seconds else 0.0
    numbers = {
        "published": story.published,
        "received": story.total("received"),
        "duplicates": story.total("duplicates"),
        "effects": len(story.effects),
        "retried": story.total("failed"),
        "dead letters": story.total("dead_lettered"),
        "redriven": story.redriven,
        "killed": len(story.killed),
    }
    print("\n  " + "   ".join(f"{name} {number:,}" for name, number in numbers.items()))
    print(
        f"  {story.seconds:.1f} s, {rate:,.0f} deliveries a second (2 ms of work each, 3 processes, 1 file)\n"
    )

    results = list(checks(story))
    for check in results:
        print(f"  {good if check.holds else bad} {check.claim} ({check.found})")
    print()
    return all(check.holds for check in results)
