"""The command line in pipes, with signals: nothing is lost, and no traceback is shown.

Law: real processes; each test waits for what it can see (a line, an exit), never for a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

import unimsg as library
from unimsg import sync

ROOT = Path(__file__).resolve().parents[3]
UNIMSG = (sys.executable, "-m", "unimsg")

APP = """
import os, pathlib, time
import unimsg

router = unimsg.Router()

@router.on("orders", group="billing", concurrency=1, drain=20)
async def bill(delivery):
    pathlib.Path("started").touch()
    while not pathlib.Path("go").exists():
        await __import__("asyncio").sleep(0.01)
    with open("billed", "a") as file:
        file.write(f"{delivery.body}\\n")
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/messages.db?lease=1s"


@contextmanager
def started(*arguments: str, url: str, cwd: Path = ROOT, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that runs; whatever happens, it does not outlive the test."""
    process = subprocess.Popen(
        [*UNIMSG, *arguments],
        text=True,
        cwd=cwd,
        env={**os.environ, "UNIMSG_URL": url, "PYTHONPATH": str(ROOT)},
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end: code, stdout, stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def fill(url: str, count: int, key: str | None = None) -> None:
    """Publish numbers from 0 on."""
    with sync.connect(url) as client:
        client.publisher("orders").publish_many(library.Message(body=n, key=key) for n in range(count))


def left(url: str, group: str) -> list[int]:
    """What a group has still before it."""
    bodies: list[int] = []

    async def take(delivery: library.Delivery[int]) -> None:
        bodies.append(delivery.body)

    async def read() -> None:
        async with library.connect(url) as client:
            await client.subscriber("orders", group=group).run_until_idle(take)

    asyncio.run(read())
    return sorted(bodies)


def test_a_shell_pipe(url: str) -> None:
    """From one destination into another, by the shell's own means."""
    fill(url, 1_000)
    script = (
        f"{sys.executable} -m unimsg consume orders -g copy --until-idle"
        f" | {sys.executable} -m unimsg publish copy"
        f" && {sys.executable} -m unimsg consume copy -g g --raw --until-idle | sort -n | uniq | wc -l"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, "UNIMSG_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1000", "")


def test_a_closed_pipe_releases_what_was_not_written(url: str) -> None:
    """`| head -3`: the code of SIGPIPE, no word on stderr, and what was not written is there at once."""
    count = 20_000
    fill(url, count)
    with started("consume", "orders", "-g", "g", "--raw", url=url) as process:
        assert process.stdout is not None
        head = [int(process.stdout.readline()) for _ in range(3)]
        process.stdout.close()
        code = process.wait(60)
        said = process.stderr.read() if process.stderr else ""

    assert (code, said) == (141, "")
    remaining = left(url, "g")
    assert head == [0, 1, 2]
    assert remaining[-1] == count - 1
    assert len(remaining) > count / 2, "a pipe holds some, not all of them"
    assert remaining == list(range(remaining[0], count)), "what was not written is a contiguous rest"


def test_a_slow_reader_does_not_lose_leases(url: str, tmp_path: Path) -> None:
    """Promise 8: while the pipe is full the loop goes on, so what is in hand keeps its lease and comes once."""
    fill(url, 5_000, key="ann")
    with started("consume", "orders", "-g", "g", "--until-idle", url=url) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        with closing(sqlite3.connect(tmp_path / "messages.db")) as db:
            begin = leased_until(db)
            while leased_until(db) < begin + 2.0:  # two leases on: they were extended, with nobody reading
                assert process.poll() is None
                threading.Event().wait(0.02)
        rest = process.stdout.read()
        code = process.wait(60)

    assert code == 0
    assert [json.loads(line)["body"] for line in (first + rest).splitlines()] == list(range(5_000))


def leased_until(db: sqlite3.Connection) -> float:
    """When the last lease ends."""
    (until,) = db.execute("SELECT max(until) FROM unimsg_entries WHERE member IS NOT NULL").fetchone()
    return float(until or 0.0)


def test_killed_in_the_middle_nothing_is_lost(url: str) -> None:
    """Promise 1, 5: SIGKILL while it writes; what was acked was written, the rest comes again."""
    count = 3_000
    fill(url, count)
    with started("consume", "orders", "-g", "g", "--raw", url=url) as process:
        assert process.stdout is not None
        written = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        written += process.stdout.read().splitlines(keepends=True)
    seen = {int(line) for line in written if line.endswith("\n")}

    assert seen | set(left(url, "g")) == set(range(count))


def test_an_interrupt_stops_consume_in_order(url: str) -> None:
    """130, no traceback, and nothing that was written comes again."""
    fill(url, 10)
    with started("consume", "orders", "-g", "g", "--raw", url=url) as process:
        assert process.stdout is not None
        written = [int(process.stdout.readline()) for _ in range(10)]
        process.send_signal(signal.SIGINT)
        code, out, err = end(process)

    assert (code, out, err) == (130, "", "")
    assert written == list(range(10))
    assert left(url, "g") == []


def test_a_termination_stops_consume_in_order(url: str) -> None:
    """143, as a shell says it."""
    fill(url, 1)
    with started("consume", "orders", "-g", "g", "--raw", url=url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGTERM)
        code, _, err = end(process)

    assert (code, err) == (143, "")
    assert left(url, "g") == []


def test_publish_takes_a_slow_pipe_line_by_line(url: str) -> None:
    """What is there is published, without waiting for more; an interrupt ends it with 130 and says how far it was."""
    with (
        started("consume", "orders", "-g", "g", "--raw", url=url) as consumer,
        started("publish", "orders", "--raw", url=url) as publisher,
    ):
        assert publisher.stdin is not None
        assert consumer.stdout is not None
        for n in range(3):
            publisher.stdin.write(f"{n}\n")
            publisher.stdin.flush()
            assert consumer.stdout.readline() == f"{n}\n"
        publisher.send_signal(signal.SIGINT)
        code, _, err = end(publisher)

    assert code == 130
    assert err == "unimsg: interrupted: 3 messages are published, of the next lines some may be\n"


def test_tail_shows_what_is_new_and_leaves_no_group(url: str, tmp_path: Path) -> None:
    """What lay there is not shown, no other group misses anything, and nothing of it is left in the file."""
    fill(url, 5)
    with started("tail", "orders", "--raw", "--max", "1", url=url) as process:
        lines: list[str] = []
        reader = threading.Thread(target=_collect, args=(process.stdout, lines))
        reader.start()
        with sync.connect(url) as client:
            while reader.is_alive():
                client.publish("orders", "new")
                reader.join(0.05)
        code, _, err = end(process)

    assert (code, lines, err) == (0, ['"new"\n'], "")
    with closing(sqlite3.connect(tmp_path / "messages.db")) as db:
        groups = db.execute("SELECT name FROM unimsg_groups").fetchall()
    assert groups == []


def _collect(stream: IO[str] | None, lines: list[str]) -> None:
    assert stream is not None
    lines.extend(stream)


def status(port: str, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of a probe."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_run_answers_probes_and_drains_on_sigterm(url: str, tmp_path: Path) -> None:
    """Promise 17: what was accepted is finished, the rest goes back, and the exit code is 0."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    fill(url, 3, key="ann")
    with started("run", "app:router", "--health-port", "0", url=url, cwd=tmp_path) as process:
        assert process.stderr is not None
        port = process.stderr.readline().partition("127.0.0.1:")[2].partition("/")[0]
        while not (tmp_path / "started").exists():
            assert process.poll() is None
        probes = [status(port, path)[0] for path in ("/live", "/ready", "/ready?full", "/elsewhere")]
        posted = status(port, "/live", "POST")[0]
        ok = status(port, "/ready")
        process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        code, out, err = end(process)

    assert ok == (200, "ok\n")
    assert (probes, posted) == ([200, 200, 200, 404], 405)
    assert (code, out, err) == (0, "", "")
    billed = [int(line) for line in (tmp_path / "billed").read_text(encoding="utf-8").splitlines()]
    assert billed
    assert billed + left(url, "billing") == [0, 1, 2]


def test_run_ends_with_a_sentence_when_it_cannot_begin(tmp_path: Path) -> None:
    """A destination that does not exist is no traceback."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    missing = f"sqlite:///{tmp_path}/missing/messages.db"
    with started("run", "app:router", url=missing, cwd=tmp_path) as process:
        code, _, err = end(process)

    assert code == 1
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_no_colour_and_no_progress_in_a_pipe(url: str, tmp_path: Path) -> None:
    """Not a byte of a terminal's language, although the environment says that there is one."""
    (tmp_path / "orders.jsonl").write_text('{"body":1}\n' * 1_000, encoding="utf-8")
    environment = {**os.environ, "TERM": "xterm-256color", "UNIMSG_URL": url}
    environment.pop("NO_COLOR", None)
    said = b""
    for arguments in (
        ("publish", "orders", str(tmp_path / "orders.jsonl")),
        ("capabilities",),
        ("provision", "orders", "-g", "g"),
        ("nonsense",),
    ):
        done = subprocess.run(
            [*UNIMSG, *arguments], cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False
        )
        said += done.stdout + done.stderr

    assert b"\x1b" not in said
    assert b"publishing" not in said


def test_json_in_a_pipe_is_one_line() -> None:
    """So that jq can read it."""
    done = subprocess.run(
        [*UNIMSG, "capabilities", "--json"], cwd=ROOT, capture_output=True, timeout=60, check=True
    )

    assert done.stdout.count(b"\n") == 1
    assert json.loads(done.stdout)["memory"]["groups"] is True
