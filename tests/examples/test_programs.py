"""The programs of `examples/` do what they say, on both embedded backends.

Law: each is loaded from its file and run as it stands; what it prints is what is compared. No example is left out.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    """The module of an example, new each time: routers and counters of a run are its own."""
    (path,) = EXAMPLES.glob(f"{name}_*.py")
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec and dataclasses look their annotations up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the program runs."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/messages.db"


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that were printed."""
    return capsys.readouterr().out.splitlines()


def test_no_example_is_left_out() -> None:
    """Every file of the folder is run by a test below."""
    text = Path(__file__).read_text(encoding="utf-8")
    numbers = [path.name.partition("_")[0] for path in EXAMPLES.glob("[0-9]*")]

    assert numbers
    assert [number for number in numbers if f"def test_{number}_" not in text] == []


class Browser:
    """As much of an ASGI server as one request needs."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._stop = asyncio.Event()
        self._said: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        steps = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            step = next(steps)
            if step == "lifespan.shutdown":
                await self._stop.wait()
            return {"type": step}

        async def send(event: dict[str, str]) -> None:
            self._said.put_nowait(event["type"])

        self._life = asyncio.create_task(self.app({"type": "lifespan"}, receive, send))
        assert await self._said.get() == "lifespan.startup.complete"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._life
        assert await self._said.get() == "lifespan.shutdown.complete"

    async def post(self, body: bytes) -> int:
        """The status of a request."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await self.app({"type": "http"}, receive, send)
        return sent[0]["status"]  # type: ignore[no-any-return]  # an ASGI event holds anything


async def test_01_web_service(url: str) -> None:
    """202 means that the broker has the order; nonsense is refused and not published."""
    module = load("01")
    app = module.App(url)
    bodies: list[object] = []

    async def collect(delivery: Any) -> None:
        bodies.append((delivery.key, delivery.id, delivery.body))

    async with Browser(app) as browser:
        order = {"id": "o-1", "customer": "ann", "amount": 5.0}
        statuses = [await browser.post(msgspec.json.encode(order)), await browser.post(b"{}")]
        await app.client.subscriber("orders", group="test").run_until_idle(collect)

    assert statuses == [202, 422]
    assert bodies == [("ann", "o-1", order)]


async def test_02_orders_in_order(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Order of each customer is kept across a retry; what cannot work is put aside (promises 6, 14, 16)."""
    await load("02").main(url)

    lines = printed(capsys)
    assert [line for line in lines if line.startswith("ann")] == [
        "ann: order 1 billed at attempt 2",
        "ann: order 5 billed at attempt 1",
        "ann: order 3 put aside",
    ]
    assert [line for line in lines if line.startswith("bob")] == [
        "bob: order 2 billed at attempt 1",
        "bob: order 4 billed at attempt 1",
    ]


async def test_03_slow_handlers(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty-four handlers run at once, and no more."""
    await load("03").main(url)

    assert printed(capsys)[0].startswith("640 calls, 64 at once")


async def test_04_one_event_three_services(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every group gets every message, two members of one group share them."""
    await load("04").main(url)

    assert printed(capsys) == ["billing 100, mail 100, shipping 100"]


async def test_05_devices(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One handler's publish is the next one's message."""
    await load("05").main(url)

    assert printed(capsys) == ["attic: fan on"]


async def test_06_replay(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A new group reads by time, an old one goes back to a position."""
    await load("06").main(url)

    groups = ["billing"] * 3 + ["report"] * 3 + ["billing"]
    orders = [1, 2, 3, 1, 2, 3, 3]
    assert printed(capsys) == [f"{group}: order {n}" for group, n in zip(groups, orders, strict=True)]


async def test_08_test_a_handler() -> None:
    """The tests in the example are tests: they pass, and fail when the handler is wrong."""
    module = load("08")

    await module.test_a_negative_amount_is_refused()
    await module.test_an_order_ends_in_a_receipt()


def status(port: str, path: str) -> int:
    """The status of a probe."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_09_shell_pipe(tmp_path: Path) -> None:
    """Promise 20: lines in, lines out; the shell sees messages as text, and its exit codes hold."""
    program = next(EXAMPLES.glob("09_*.sh"))
    done = subprocess.run(
        ["sh", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "UNIMSG_URL": f"sqlite:///{tmp_path}/messages.db",
        },
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ['{"id":2,"amount":250}', '{"id":3,"amount":900}']


def test_10_stop_and_health(url: str) -> None:
    """Probes answer while it runs, and SIGTERM ends it in order with exit code 0 (promise 17)."""
    process = subprocess.Popen(
        [sys.executable, next(EXAMPLES.glob("10_*.py"))],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "UNIMSG_URL": url, "PORT": "0"},
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        while process.poll() is None and status(port, "ready") != 200:
            continue
        live = status(port, "live")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()

    assert live == 200
    assert process.returncode == 0
    assert said.splitlines()[-1] == "stopped in order"


async def test_11_move_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An order that went both ways is billed once."""
    await load("11").main("memory://", f"sqlite:///{tmp_path}/new.db", f"sqlite:///{tmp_path}/seen.db")

    assert sorted(printed(capsys)) == [f"order {number} billed" for number in range(1, 6)]
