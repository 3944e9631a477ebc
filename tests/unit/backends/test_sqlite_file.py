"""The file of sqlite: how it comes into being, whose it is, and what is refused instead of opened."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import unimsg
from unimsg.backends.sqlite.file import VERSION
from unimsg.errors import ConfigError, ConnectError, Error, NotFoundError, PermissionDeniedError
from unimsg.sqlitefile import place


def publish(path: Path, *, options: str = "", then: Callable[[], Any] = lambda: None) -> Any:
    """Publish one message, which opens the file; returns what `then` returns while it is open."""

    async def published() -> Any:
        async with unimsg.connect(f"sqlite:///{path}{options}") as client:
            await client.publish("orders", 1)
            return then()

    return asyncio.run(published())


def test_all_that_is_made_is_for_its_owner_only(tmp_path: Path) -> None:
    """Safe by default: mode 0600, whatever the umask; also the log, its index and the lock file."""
    old = os.umask(0)
    try:
        modes = publish(
            tmp_path / "messages.db",
            then=lambda: {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()},
        )
    finally:
        os.umask(old)

    assert modes == dict.fromkeys(
        ("messages.db", "messages.db-wal", "messages.db-shm", "messages.db-turn"), 0o600
    )


def test_an_application_may_have_its_own_tables_in_the_file(tmp_path: Path) -> None:
    """Its tables and the mode of its file stay as they were."""
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as app:
        app.execute("CREATE TABLE orders (id)")
        app.execute("INSERT INTO orders VALUES (7)")
    app.close()
    path.chmod(0o640)
    publish(path)

    app = sqlite3.connect(path)
    assert app.execute("SELECT id FROM orders").fetchall() == [(7,)]
    app.close()
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("version", "cure"),
    [
        (VERSION + 1, "install a newer unimsg"),
        (VERSION - 1, "drain it with the unimsg that made it"),
    ],
)
def test_tables_of_another_version_are_refused(tmp_path: Path, version: int, cure: str) -> None:
    """A schema version: nothing is guessed, the sentence says both numbers and what to do."""
    path = tmp_path / "messages.db"
    publish(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE unimsg_schema SET version = ?", (version,))
    connection.close()

    with pytest.raises(ConfigError, match=f"has version {version} .* knows {VERSION}: {cure}"):
        publish(path)


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def damaged(path: Path) -> None:
    publish(path)
    page = path.read_bytes()
    path.write_bytes(page[:100] + b"\xff" * 4000 + page[4100:])


def folder(path: Path) -> None:
    path.mkdir()


def no_parent(path: Path) -> None:
    path.parent.rmdir()


REFUSED: list[tuple[Callable[[Path], None], type[Error], str]] = [
    (garbage, ConfigError, "is no SQLite database, or is damaged"),
    (damaged, ConfigError, "is no SQLite database, or is damaged"),
    (folder, ConfigError, "is a folder: give the path of a file"),
    (no_parent, NotFoundError, "does not exist: make it first"),
]


@pytest.mark.parametrize(("prepare", "kind", "sentence"), REFUSED)
def test_what_is_no_database_is_refused(
    tmp_path: Path, prepare: Callable[[Path], None], kind: type[Error], sentence: str
) -> None:
    """Each with what to do, at opening, and what is there stays as it was."""
    path = tmp_path / "place" / "messages.db"
    path.parent.mkdir()
    prepare(path)
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises(kind, match=sentence):
        publish(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_missing_file_is_told_when_it_may_not_be_made(tmp_path: Path) -> None:
    """`create=false`."""
    with pytest.raises(NotFoundError, match=r"there is no file .*, and create=false"):
        publish(tmp_path / "messages.db", options="?create=false")
    assert list(tmp_path.iterdir()) == []


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL needs shared memory; a file that works until the second machine opens it is no file for messages."""
    monkeypatch.setattr(place, "file_system", lambda _: "nfs4")

    with pytest.raises(ConfigError, match=r"network file system \(nfs4\): use a local disk"):
        publish(tmp_path / "messages.db")
    assert list(tmp_path.iterdir()) == []


def test_the_file_system_is_that_of_the_longest_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount in a mount, names with spaces, a later mount over an earlier one."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nhost:/x /data nfs4 rw 0 0\ntmpfs /data/my\\040disk tmpfs rw 0 0\n"
        "/dev/b /twice ext4 rw 0 0\nhost:/y /twice cifs rw 0 0\n"
    )
    monkeypatch.setattr(place, "MOUNTS", mounts)
    found = {
        path: place.file_system(Path(path)) for path in ("/home", "/data/a", "/data/my disk/b", "/twice")
    }

    assert found == {"/home": "ext4", "/data/a": "nfs4", "/data/my disk/b": "tmpfs", "/twice": "cifs"}
    monkeypatch.setattr(place, "MOUNTS", tmp_path / "nothing")
    assert place.file_system(Path("/")) is None


def as_anybody(program: str, *args: str) -> str:
    """Run a program without the powers of root, so that the modes of files count for it; returns what it printed."""
    powerless = """
        import ctypes
        class Header(ctypes.Structure):
            _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
        assert ctypes.CDLL(None).capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)()) == 0
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(powerless) + dedent(program), *args],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "capset"), reason="only Linux has powers to drop")
@pytest.mark.parametrize("what", ["file", "folder", "new", "unreadable"])
def test_what_may_not_be_written_is_told(tmp_path: Path, what: str) -> None:
    """A file or folder that is read-only, a new file in such a folder, a file of somebody else."""
    path = tmp_path / "place" / "messages.db"
    path.parent.mkdir()
    if what != "new":
        publish(path)
        path.with_name("messages.db-turn").unlink()
    path.parent.chmod(0o500 if what in ("folder", "new") else 0o700)
    if what in ("file", "unreadable"):
        path.chmod(0o400 if what == "file" else 0)
    program = """
        import asyncio, sys, unimsg
        async def main():
            try:
                async with unimsg.connect(f"sqlite:///{sys.argv[1]}") as client:
                    await client.publish("orders", 1, timeout=0.2)
            except unimsg.Error as error:
                print(type(error).__name__, error)
        asyncio.run(main())
    """
    said = as_anybody(program, str(path))
    path.parent.chmod(0o700)

    assert said.startswith(PermissionDeniedError.__name__), said
    assert str(path) in said


def test_what_the_disk_refuses_otherwise_is_a_connect_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may go better later, and the sentence has the system's reason."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"{place.__name__}.os.open", full)
    with pytest.raises(ConnectError, match="cannot be made: No space left on device"):
        publish(tmp_path / "messages.db")
