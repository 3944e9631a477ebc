"""`python -m examples.earthquakes`: the whole story on one SQLite file, or on the backend of `UNIMSG_URL`.

Law: the order of events; exit code 1 if any claim does not hold.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import unimsg
from examples.earthquakes import feed, verdict
from examples.earthquakes.handlers import (
    DESTINATION,
    FORGOTTEN,
    NETWORKS,
    Outside,
    build,
    dead_letters,
    groups_of,
)
from examples.earthquakes.stage import Stage
from unimsg import Client
from unimsg.codecs import BYTES
from unimsg.spi import Provisions, Topology


def say(sentence: str) -> None:
    """Tell what happens now."""
    print(f"  {sentence}", flush=True)


async def publish(client: Client, *, with_malformed: bool) -> int:
    """Publish the whole feed; every receipt is a confirmation of the broker."""
    publisher = client.publisher(DESTINATION, codec=BYTES)
    messages = feed.poll(with_malformed=with_malformed)
    return len(
        await publisher.publish_many(messages, timeout=120)
    )  # one network's quakes go one after the other


async def read_dead_letters(client: Client, story: verdict.Story) -> None:
    """Look at what was put aside: a redrive that moves nothing."""
    for group in story.groups:
        letters = story.dead.setdefault(group, [])

        def look(letter: Any, letters: list[verdict.Letter] = letters) -> bool:  # noqa: ANN401 - has no public name
            reason = letter.info.reason if letter.info is not None else ""
            letters.append(verdict.Letter(letter.message.id, letter.message.body, reason))
            return False

        await client.redrive(dead_letters(group), group=group, filter=look, dry_run=True)


def repaired(message: unimsg.Message[bytes | None]) -> bool:
    """Whether the new version can handle this dead letter."""
    return message.key in FORGOTTEN


async def provision(client: Client, groups: Sequence[str]) -> None:
    """Make what an operator would, where there is anything to make; it is read from the beginning, so new."""
    if isinstance(client.backend, Provisions):
        for group in groups:
            await client.provision(
                Topology(destination=DESTINATION, groups=[group], dead_letter=dead_letters(group))
            )


async def act_one(client: Client, stage: Stage, story: verdict.Story) -> None:
    """Two workers; one of them dies in the middle, the feed is polled again, everything goes on."""
    say("publishing the feed, with three lines that are none …")
    story.published += await publish(client, with_malformed=True)
    await asyncio.gather(stage.start("one"), stage.start("two"))

    await stage.until(lambda effects: len(effects) > len(feed.quakes()) // 2)
    victim, _ = Counter(effect.worker for effect in stage.seen()).most_common(1)[0]
    await stage.kill(victim)
    say(f"worker {victim} was killed (SIGKILL) after {len(stage.seen()):,} effects; it starts again")
    await stage.start(f"{victim} again")
    say("publishing the feed a second time, as a polling client does …")
    story.published += await publish(client, with_malformed=False)
    wanted = {(group, quake.id) for group in story.groups for quake in feed.quakes()}
    wanted -= {("catalogue", quake.id) for quake in feed.quakes() if verdict.forgotten(quake)}
    await stage.until(lambda effects: wanted <= {(e.group, e.quake.id) for e in effects})
    story.exits = await stage.stop()
    say("both workers were asked to stop (SIGTERM)")


async def act_two(client: Client, stage: Stage, story: verdict.Story) -> None:
    """The service learns the networks it had forgotten; what waited for that is given back."""
    outside = Outside(stage.effects, "repaired", NETWORKS | FORGOTTEN)
    router = build(stage.store, outside, story.groups)
    before = await router.run_until_idle(client)
    await read_dead_letters(client, story)
    for group in story.groups:
        report = await client.redrive(
            dead_letters(group), group=group, filter=lambda letter: repaired(letter.message)
        )
        story.redriven += report.redriven
    say(f"repaired, and {story.redriven} of {sum(map(len, story.dead.values()))} dead letters redriven")
    after = await router.run_until_idle(client)
    last = await router.run_until_idle(client)
    for loops in (before, after):
        stage.count({str(loop.group): loop.counters for loop in loops})
    story.left = sum(loop.counters["received"] for loop in last)
    outside.close()


async def main(url: str, store: str, effects: Path) -> bool:
    """Play it and judge it."""
    story = verdict.Story(groups=groups_of(url))
    stage = Stage(url, store, effects)
    begin = time.monotonic()
    try:
        async with unimsg.connect(url) as client:
            await provision(client, story.groups)
            story.recognised = client.capabilities.dedup != "none"
            await act_one(client, stage, story)
            await act_two(client, stage, story)
    finally:
        stage.abandon()
    story.seconds = time.monotonic() - begin
    story.effects, story.counted, story.killed = stage.seen(), stage.counted, stage.killed
    return verdict.show(story)


def play(folder: Path) -> bool:
    """Play it in a folder; when a check fails, show the end of what the processes logged."""
    effects = folder / "effects.jsonl"
    log = folder / "effects.jsonl.log"
    logging.basicConfig(filename=log, format="%(asctime)s %(process)d %(message)s")
    url = os.environ.get("UNIMSG_URL") or f"sqlite:///{folder}/messages.db?lease=3s"
    holds = asyncio.run(main(url, f"sqlite:///{folder}/seen.db", effects))
    if not holds:
        print("  The end of the log:", *log.read_text(encoding="utf-8").splitlines()[-30:], sep="\n  ")
    return holds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.exit(0 if play(Path(place)) else 1)
