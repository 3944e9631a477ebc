"""World: the broker that the catalogue runs against, and what a test may ask of it.

Law: knows the public API and the contract; a backend's own test file derives from it what only that broker can tell.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NoReturn, Protocol, Self

import pytest

import unimsg
from unimsg import registry
from unimsg.capabilities import Capabilities
from unimsg.client import Client
from unimsg.consuming.delivery import Delivery
from unimsg.options import Options, parse, render
from unimsg.spi import Provisions, SendLimits, Topology

PATIENCE = 30.0
"""Seconds after which a test has hung; nothing is proved by how long something took."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message as the plain client of a service sees it."""

    body: bytes
    key: str | None = None
    headers: Mapping[str, str] | None = None


class Interop(Protocol):
    """The plain client of a service, for the proof that others can read and write what we do."""

    async def publish(self, destination: str, message: Foreign, /) -> None:
        """Publish as somebody who has never heard of unimsg."""

    async def receive(self, destination: str, group: str | None, count: int, /) -> Sequence[Foreign]:
        """Receive and settle as such a one; `group` exists already where the service needs that."""
        ...


class Victim:
    """A consumer in a process of its own; it holds what it is given and settles nothing."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def holds(self, count: int) -> list[str]:
        """Return the bodies of the first `count` messages that it was given."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            lines = [await self._process.stdout.readline() for _ in range(count)]
        assert all(lines), "the victim died by itself"
        return [line.decode().rstrip() for line in lines]

    async def kill(self) -> None:
        """End it without a chance to say anything."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.communicate()


class World:
    """One broker, any number of clients, destinations that nobody else uses.

    Args:
        url: what `connect` takes.
        environment: what this is, for the report: `"Apache Kafka 4.4, one node"`.
        tick: the shortest time in seconds that can be told apart here; waiting is done in multiples of it.
        lease: the shortest lease that this broker stands; None: it has no leases.
        deviations: test name -> why this environment cannot show it (a fact with a source, not an excuse).
        interop: the plain client, where there is one.
        nowhere: a URL of the same kind where nobody answers.
    """

    long_cut = 30.0
    """Seconds that a network cut lasts."""
    idle_requests = 60.0
    """The most requests a minute that one idle consumer may make."""

    def __init__(
        self,
        url: str,
        *,
        environment: str,
        tick: float = 0.05,
        lease: float | None = None,
        deviations: Mapping[str, str] | None = None,
        interop: Interop | None = None,
        nowhere: str | None = None,
    ) -> None:
        self.url = url
        self.environment = environment
        self.tick = tick
        self.lease = lease
        self.deviations = deviations or {}
        self.interop = interop
        self.nowhere = nowhere
        self.options: Options = parse(url, registry.options_of(url.partition("://")[0]))
        self.scale = float(os.environ.get("UNIMSG_SCALE", "0.02"))
        """How much of the full size of a test is run; the drills set it to 1."""
        self._clients: list[Client] = []
        self._victims: list[Victim] = []

    @property
    def capabilities(self) -> Capabilities:
        """What is declared for the URL."""
        return registry.plugin(self.options.scheme).declare(self.options)

    @property
    def is_log(self) -> bool:
        """Whether a member is given a share of a log: when that moves, what was in hand may be read again."""
        return self.capabilities.lease is None and self.capabilities.replay != "none"

    # ------------------------------------------------------------ clients

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for victim in self._victims:
            await victim.kill()
        for client in self._clients:
            await client.aclose()
        await asyncio.sleep(0)
        left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("unimsg.")]
        assert not left, f"tasks outlive their client: {left}"

    def url_with(self, **options: Any) -> str:
        """Return the URL with these options changed; what this backend has no option for is left out."""
        known = {name: value for name, value in options.items() if hasattr(self.options, name)}
        return render(replace(self.options, **known), secrets=True)

    def connect(self, **options: Any) -> Client:
        """Return one more client, not opened; it is closed with the world.

        Args:
            **options: of the URL, see `url_with`.
        """
        client = unimsg.connect(self.url_with(**options))
        self._clients.append(client)
        return client

    async def client(self, **options: Any) -> Client:
        """Return one more client, opened."""
        client = self.connect(**options)
        await client.__aenter__()
        return client

    @property
    def brief_options(self) -> dict[str, Any]:
        """Options of a client with the shortest lease."""
        return {} if self.lease is None else {"lease": self.lease}

    async def brief(self) -> Client:
        """Return one more client, opened, with the shortest lease, so that what it abandons comes again soon."""
        return await self.client(**self.brief_options)

    async def leases_end(self) -> None:
        """Return when the leases of `brief` clients that nobody keeps have ended."""
        if self.lease is not None:
            await asyncio.sleep(self.lease + self.tick)

    # ------------------------------------------------------------ destinations

    def name(self, word: str = "d") -> str:
        """Return a name that nobody else uses."""
        return f"{word}-{os.getpid()}-{next(_numbers)}-{os.urandom(3).hex()}"

    @property
    def group(self) -> str | None:
        """The group that a test consumes for, where it needs no more than one."""
        return self.group_named("g") if self.capabilities.groups else None

    def group_named(self, word: str) -> str:
        """Return the name of one more group, which no other test uses where that could matter."""
        return word

    async def destination(
        self, word: str = "d", *, groups: Iterable[str | None] | None = None, dead_letter: str | None = None
    ) -> str:
        """Return a destination that exists, with its groups, and that nobody else uses."""
        name = self.name(word)
        wanted = [group for group in ((self.group,) if groups is None else groups) if group is not None]
        await self.provision(Topology(destination=name, groups=wanted, dead_letter=dead_letter))
        return name

    async def provision(self, topology: Topology) -> None:
        """Make what a test needs, as an operator would."""
        async with unimsg.connect(self.url) as client:
            if isinstance(client.backend, Provisions):
                await client.provision(topology)

    # ------------------------------------------------------------ size and chance

    def scaled(self, count: int, least: int = 20) -> int:
        """Return as much of a full count as this run is meant to do."""
        return max(least, int(count * self.scale))

    def chance(self) -> Random:
        """Return a source of chance; its seed is printed, and UNIMSG_SEED repeats it."""
        seed = int(os.environ.get("UNIMSG_SEED") or int.from_bytes(os.urandom(4)))
        print(f"chance: UNIMSG_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
        return Random(seed)  # noqa: S311 - repeatable, not secret

    # ------------------------------------------------------------ what only some brokers can do

    async def restart(self) -> None:
        """Kill the broker without warning and start it again on what it kept."""
        self.cannot("there is no broker process to kill here")

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Nothing passes between the clients and the broker while the block runs; nobody is told."""
        self.cannot("there is no network to cut here")
        yield

    async def victim(self, destination: str, *, concurrency: int = 10, **options: Any) -> Victim:
        """Start a consumer for `group` in a process of its own, to be killed; options are those of the URL."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "unimsg.testing.conformance.victim"),
            *(self.url_with(**options), destination, self.group or "", str(concurrency)),
            stdout=asyncio.subprocess.PIPE,
        )
        self._victims.append(victim := Victim(process))
        return victim

    def cannot(self, why: str) -> NoReturn:
        """End the running test: this environment cannot show it, and the report says why."""
        pytest.skip(f"{self.environment}: {why}")


# ---------------------------------------------------------------- short words for what most tests do


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Return when a condition holds that no event tells of; fails with what was waited for."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"this never came about: {what}"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def consuming(
    client: Client, destination: str, handler: Callable[[Any], Any], **settings: Any
) -> AsyncIterator[unimsg.Subscriber[Any]]:
    """Run a handler in the background while the block runs; stop it in order, and raise what ended it."""
    subscriber = client.subscriber(destination, **settings)
    task = asyncio.create_task(subscriber.run(handler))
    opened = asyncio.create_task(subscriber.opened.wait())
    try:
        await asyncio.wait({task, opened}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        yield subscriber
    finally:
        opened.cancel()
        await subscriber.aclose()
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.done(), "the subscriber did not end after it was closed"
        task.result()


class Gathered:
    """A handler that writes down what it got, and tells when it is enough."""

    def __init__(self, count: int) -> None:
        self.deliveries: list[Delivery[Any]] = []
        self.bodies: list[Any] = []
        self._count = count
        self._enough = asyncio.Event()

    async def __call__(self, delivery: Delivery[Any]) -> None:
        """Handle one."""
        self.deliveries.append(delivery)
        self.bodies.append(delivery.body)
        if len(self.bodies) >= self._count:
            self._enough.set()

    async def enough(self) -> None:
        """Return when so many have come; fails when they do not."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._enough.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.bodies)} of {self._count} messages came") from None


async def gather(
    client: Client, destination: str, count: int, *, group: str | None, **settings: Any
) -> Gathered:
    """Consume until `count` messages have come; they are acked."""
    gathered = Gathered(count)
    async with consuming(client, destination, gathered, group=group, **settings):
        await gathered.enough()
    return gathered


async def limits_of(client: Client, destination: str) -> SendLimits:
    """Return what a sender of this client keeps to."""
    sender = await client.backend.open_sender(destination)
    await sender.aclose()
    return sender.limits


async def remaining(client: Client, destination: str, *, group: str | None, **settings: Any) -> Gathered:
    """Consume what a group still has before it, until there is no more; it is acked."""
    gathered = Gathered(0)
    await client.subscriber(destination, group=group, **settings).run_until_idle(gathered)
    return gathered


async def left(client: Client, destination: str, *, group: str | None, **settings: Any) -> list[Any]:
    """Return the bodies of all that is there for a group; they are acked."""
    gathered = Gathered(0)
    await client.subscriber(destination, group=group, **settings).run_until_idle(gathered)
    return gathered.bodies


def quick(world: World, attempts: int = 5) -> unimsg.RetryPolicy:
    """Return a policy that tries again after one tick each time."""
    return unimsg.RetryPolicy(
        max_attempts=attempts, initial=world.tick, factor=1, max=world.tick, jitter="none"
    )
