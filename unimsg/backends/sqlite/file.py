"""The file: how it is made, opened and recognised; the tables and their version.

Law: nothing here knows messages. The file is for its owner only, on a local disk, and never older code's than its own
version; tables carry a prefix, so that it may be an application's own database.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from unimsg.errors import ConfigError, ConnectError, NotFoundError

NAME = "sqlite"
VERSION = 1
"""Of the tables below; a file with a higher one was made by a newer unimsg."""
BITS = 40
"""A row number is the number of its destination or group, then the offset in so many bits: one tree, in order."""
BUSY = 5.0
"""Seconds that SQLite waits for another process's transaction before it reports that it is busy."""
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"}
)
"""File systems on which WAL cannot work: its index is shared memory (https://sqlite.org/wal.html, 2026-11)."""

TABLES = """
CREATE TABLE unimsg_destinations (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, next INTEGER NOT NULL DEFAULT 0);
CREATE TABLE unimsg_messages (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, due REAL NOT NULL, ends REAL NOT NULL,
    id, key, headers, content_type, timestamp REAL, body BLOB
);
CREATE TABLE unimsg_ids (
    destination INTEGER NOT NULL, id NOT NULL, at REAL NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (destination, id)
) WITHOUT ROWID;
CREATE TABLE unimsg_groups (
    id INTEGER PRIMARY KEY, destination INTEGER NOT NULL, name TEXT NOT NULL,
    next INTEGER NOT NULL, fence INTEGER NOT NULL DEFAULT 0, UNIQUE (destination, name)
);
CREATE TABLE unimsg_members (id INTEGER PRIMARY KEY AUTOINCREMENT, grp INTEGER NOT NULL, seen REAL NOT NULL);
CREATE TABLE unimsg_entries (
    seq INTEGER PRIMARY KEY, grp INTEGER NOT NULL, key, member INTEGER, until REAL, due REAL NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX unimsg_entries_of_lane ON unimsg_entries (grp, key, seq) WHERE member IS NULL AND key IS NOT NULL;
CREATE INDEX unimsg_entries_alone ON unimsg_entries (grp, due) WHERE member IS NULL AND key IS NULL;
CREATE INDEX unimsg_entries_leased ON unimsg_entries (grp, until) WHERE member IS NOT NULL;
CREATE TABLE unimsg_lanes (
    grp INTEGER NOT NULL, key NOT NULL, member INTEGER, out INTEGER NOT NULL, head INTEGER, due REAL,
    PRIMARY KEY (grp, key)
) WITHOUT ROWID;
CREATE INDEX unimsg_lanes_waiting ON unimsg_lanes (grp, due) WHERE head IS NOT NULL;
"""


def connect(path: str, *, create: bool, synchronous: str) -> sqlite3.Connection:
    """Open the file, making it (mode 0600) and its tables when they are missing.

    Raises:
        NotFoundError: there is no file, and `create` is off, or its folder is missing.
        ConfigError: the file is newer than this code, no SQLite database, or on a network file system.
        ConnectError: the file cannot be opened now.
    """
    _make(path, create=create)
    try:
        connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, cached_statements=256)
    except sqlite3.Error as error:
        raise ConnectError(f"{path} cannot be opened: {error}", backend=NAME) from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            raise ConfigError(f"{path} is no SQLite database: {error}", backend=NAME) from error
        if isinstance(error, sqlite3.Error):
            raise ConnectError(f"{path} cannot be opened: {error}", backend=NAME) from error
        raise
    return connection


def _make(path: str, *, create: bool) -> None:
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise NotFoundError(f"the folder {folder} does not exist: make it first", backend=NAME)
    kind = file_system(folder)
    if kind in REMOTE:
        raise ConfigError(f"{folder} is on a network file system ({kind}): use a local disk", backend=NAME)
    if Path(path).exists():
        return
    if not create:
        raise NotFoundError(f"there is no file {path}, and create=false", backend=NAME)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # -wal and -shm get the mode of the file
    except OSError as error:
        raise ConnectError(f"{path} cannot be made: {error}", backend=NAME) from error


def file_system(folder: Path) -> str | None:
    """Return the type of the file system that holds a folder, where the system tells (Linux)."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for mount in mounts:
        where, what = mount.split(" ")[1:3]
        where = where.replace("\\040", " ")
        if folder.is_relative_to(where) and len(where) >= len(best):
            best, kind = where, what
    return kind


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    if version > VERSION:
        raise ConfigError(
            f"{path} has version {version} of the tables, this unimsg knows {VERSION}: install a newer unimsg",
            backend=NAME,
        )


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables, which are made when there are none."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS unimsg_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    )
    row = connection.execute("SELECT version FROM unimsg_schema WHERE part = 'messages'").fetchone()
    if row is not None:
        return int(row[0])
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO unimsg_schema VALUES ('messages', ?)", (VERSION,))
    return VERSION
