"""The fault drill of SQS: a proxy fails, drops, delays and half executes calls; consumers die, credentials expire.

Law: it is there twice, by the same function: small, with one seed, and in full with three (`make drills`). The faults
are those that AWS has and no emulator shows; every signature is verified.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import unimsg
from tests.chaos.conftest import Play
from tests.chaos.drill import Progress
from tests.sqs.aws_faults import FaultProxy, Rule, kinds
from tests.sqs.worlds import REGION, url_of
from unimsg.spi import Topology

BATCHES = ("SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")
SMALL_ONE = 5_000
"""Messages of a small drill at most."""
SMALL = [pytest.mark.timeout(240)]
FULL = [pytest.mark.drill, pytest.mark.timeout(1800)]
CASES = [pytest.param(600, 1, marks=SMALL, id="small")]
CASES += [pytest.param(100_000, seed, marks=FULL, id=f"full-{seed}") for seed in (1, 2, 3)]


def faults() -> Iterator[Rule]:
    """Of all calls 5 % are throttled and some break; of all entries 5 % fail, 2 % fail and were executed."""
    for op in (*BATCHES, "ReceiveMessage"):
        yield Rule("error", op, p=0.05, code="RequestThrottled")
        yield Rule("after", op, p=0.005)
        yield Rule("drop", op, p=0.005, reset=True)
        yield Rule("drop", op, p=0.005, when="after", reset=True)
        yield Rule("drop", op, p=0.005, when="mid")
        yield Rule("hang", op, p=0.001, when="after")
        yield Rule("delay", op, p=0.02, seconds=0.3)
    for op in BATCHES:
        yield Rule("partial", op, p=0.2, rate=0.1, code="InternalError", ghost=True)
        yield Rule("partial", op, rate=0.06, code="RequestThrottled")


class Wallet:
    """Credentials in a file, where a process finds newer ones when its own have expired."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hold("first", "secret-1")

    def hold(self, key: str, secret: str) -> None:
        """Keep these from now on."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        fresh.replace(self.path)


@pytest.fixture
def wallet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wallet:
    """What all processes of a drill look into."""
    made = Wallet(tmp_path / "credentials")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(made.path))
    return made


async def provide(url: str) -> dict[str, str]:
    """Make the queues of a drill; returns what the plan calls them."""
    suffix = os.urandom(4).hex()
    names = {"destination": f"drill-{suffix}", "dead_letter": f"drill-dead-{suffix}"}
    async with unimsg.connect(url) as client:
        for name in names.values():
            await client.provision(Topology(destination=name))
    return names


@pytest.mark.parametrize("scheme", ["sqs", "sqs+fifo"])
@pytest.mark.parametrize(("messages", "seed"), CASES)
async def test_calls_fail_in_every_way(
    play: Play, broker_url: Callable[..., str], wallet: Wallet, scheme: str, messages: int, seed: int
) -> None:
    """I: and consumers are killed, and credentials expire half way; promises 1, 2, 4, 5, 8, 14."""
    endpoint, fifo = broker_url("ministack"), scheme == "sqs+fifo"
    names = await provide(url_of(endpoint, scheme))
    direct = {"reader": url_of(endpoint, scheme)}  # a poll whose answer is lost looks like an empty queue
    secrets = {"first": "secret-1", "second": "secret-2"}

    async with FaultProxy(endpoint, list(faults()), seed=seed, keys=secrets) as proxy:

        async def expire(progress: Progress) -> None:
            await progress.reach(0.5)
            progress.note("credentials expired")
            wallet.hold("second", "secret-2")
            proxy.expired.add("first")

        verdict = await play(
            f"{scheme}://{REGION}?endpoint_url={proxy.url}&wait=1s&lease=5s&request_timeout=3s",
            messages=messages,
            seed=seed,
            group=None,
            reader=None,
            once=fifo,
            ordered=fifo,
            poison=0.01 if messages <= SMALL_ONE else 0.001,
            window=100,
            kill_consumers=4.0,
            patience=20.0,
            disturb=expire,
            urls=direct,
            **names,
        )

    met = kinds(proxy.log)
    assert verdict.violations == {}
    assert verdict.confirmed == messages
    assert verdict.dead > 0
    assert {"error", "delay", "partial", "ghost", "refused"} <= set(met)
