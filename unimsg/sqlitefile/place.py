"""Place: how a file is made, opened and recognised, and how a transaction on it begins.

Law: nothing here knows what is in the tables. The file is for its owner only, on a local disk, and never with tables
of another version; they carry a prefix, so that it may be an application's own database.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from unimsg.errors import (
    ConfigError,
    ConnectError,
    Error,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from unimsg.sqlitefile.turnstile import Turnstile

NAME = "sqlite"
BUSY = 5.0
"""Seconds that SQLite waits for another process's transaction before it reports that it is busy."""
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"}
)
"""File systems on which WAL cannot work: its index is shared memory (https://sqlite.org/wal.html, 2026-11)."""

MOUNTS = Path("/proc/self/mounts")
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
DENIED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})

Node: TypeAlias = tuple[int, int]
"""Device and number of a file: two files may come to have the same path."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tables that belong together, with one version: a file may hold those of a backend and those of a store.

    Attributes:
        name: of this part of the schema.
        version: of its tables.
        tables: the statements that make them, each ended by a semicolon.
        cure: what to do with a file whose version is older.
    """

    name: str
    version: int
    tables: str
    cure: str


class Place:
    """Where the file of one user is, and the way to write to it.

    Args:
        path: of the file.
        part: the tables that this user needs.
        create: whether it may be made.
        synchronous: what a commit waits for.
    """

    def __init__(self, path: str, part: Part, *, create: bool, synchronous: str) -> None:
        self.path = path
        self._part = part
        self.synchronous = synchronous
        self._create = create
        self._turnstile = Turnstile(path)
        self._node: Node | None = None

    def connect(self) -> sqlite3.Connection:
        """Open the file, making it (mode 0600) and its tables when they are missing.

        Raises:
            NotFoundError: there is no file, and `create` is off, or its folder is missing.
            PermissionDeniedError: the file or its folder may not be written to.
            ConnectError: the file cannot be opened now.
            ConfigError: the file has tables of another version, is no SQLite database, is damaged, is a folder, or is
                on a network file system; or this process was forked while the file was open: SQLite would believe
                that it still has the locks of its parent (https://sqlite.org/howtocorrupt.html, 2.6).
        """
        if any(pid != os.getpid() and node == _node(self.path) for pid, node, _ in tuple(_open)):
            raise ConfigError(
                f"this process was forked while {self.path} was open: fork first and connect then, or spawn",
                backend=NAME,
            )
        connection = self._connect()
        self._node = _node(self.path)
        _open.add((os.getpid(), self._node, id(self)))
        return connection

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that may write, in turn with other processes.

        Raises:
            sqlite3.OperationalError: the file was locked all the time, or cannot be written at all.
            UnavailableError: another file is at its place, or none: what would be written, nobody would find.
        """
        self._turnstile.begin(connection)
        if _node(self.path) != self._node:
            connection.execute("ROLLBACK")
            raise UnavailableError(
                f"{self.path} was deleted or replaced while it was in use: bring it back, or restart",
                backend=NAME,
            )

    def _connect(self) -> sqlite3.Connection:
        _make(self.path, create=self._create)
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, cached_statements=256)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            self._prepare(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise unopened(error, self.path) from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables if there are none; where they are, opening waits for nobody who writes."""
        part = self._part
        version = _version(connection, part)
        if version is None:
            self._turnstile.begin(connection)
            try:
                version = _version(connection, part)
                if version is None:
                    version = _made(connection, part)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        if version != part.version:
            cure = "install a newer unimsg" if version > part.version else part.cure
            raise ConfigError(
                f"{self.path} has version {version} of the tables for {part.name}, "
                f"this unimsg knows {part.version}: {cure}",
                backend=NAME,
            )

    def close(self) -> None:
        """Let go of it."""
        self._turnstile.close()
        _open.discard((os.getpid(), self._node, id(self)))


_open: set[tuple[int, Node | None, int]] = set()
"""What is open: by which process, which file, for which place. A forked process finds here what its parent had."""


def _node(path: str) -> Node | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - on the way of every commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make(path: str, *, create: bool) -> None:
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise NotFoundError(f"the folder {folder} does not exist: make it first", backend=NAME)
    if Path(path).is_dir():
        raise ConfigError(f"{path} is a folder: give the path of a file", backend=NAME)
    kind = file_system(folder)
    if kind in REMOTE:
        raise ConfigError(f"{folder} is on a network file system ({kind}): use a local disk", backend=NAME)
    if Path(path).exists():
        if not os.access(path, os.R_OK | os.W_OK):  # SQLite itself would open it, and fail at the first write
            raise PermissionDeniedError(f"{path} must be writable for this user", backend=NAME)
        return
    if not create:
        raise NotFoundError(f"there is no file {path}, and create=false", backend=NAME)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # -wal and -shm get the mode of the file
    except PermissionError as error:
        raise PermissionDeniedError(f"{path} cannot be made: {error.strerror}", backend=NAME) from error
    except OSError as error:
        raise ConnectError(f"{path} cannot be made: {error.strerror}", backend=NAME) from error


def unopened(error: sqlite3.Error, path: str) -> Error:
    """Return our error for one of SQLite's at opening."""
    code = primary(error)
    if code in DAMAGED:
        return ConfigError(
            f"{path} is no SQLite database, or is damaged ({error}): name another file, or restore it",
            backend=NAME,
        )
    if code in DENIED:
        return PermissionDeniedError(f"{path}: its folder must be writable too ({error})", backend=NAME)
    return ConnectError(f"{path} cannot be opened: {error}", backend=NAME)


def primary(error: Exception) -> int:
    """Return SQLite's primary result code (https://sqlite.org/rescode.html); 0: not its error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def surely_unwritten(error: Exception) -> bool:
    """Whether a transaction that ended with this left nothing behind.

    Not so when the disk failed to flush: the frames of the commit may be in the log, and a restart may find them. A
    failed write is certain: a frame that is not whole is ignored (https://sqlite.org/fileformat2.html#walformat).
    """
    code = getattr(error, "sqlite_errorcode", 0)
    return primary(error) != sqlite3.SQLITE_IOERR or code == sqlite3.SQLITE_IOERR_WRITE


def file_system(folder: Path) -> str | None:
    """Return the type of the file system that holds a folder, where the system tells (Linux)."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for mount in mounts:
        where, what = mount.split(" ")[1:3]
        where = where.replace("\\040", " ")
        if folder.is_relative_to(where) and len(where) >= len(best):
            best, kind = where, what
    return kind


def _version(connection: sqlite3.Connection, part: Part) -> int | None:
    """Return the version of the tables; None: there are none."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'unimsg_schema'").fetchone():
        return None
    row = connection.execute("SELECT version FROM unimsg_schema WHERE part = ?", (part.name,)).fetchone()
    return None if row is None else int(row[0])


def _made(connection: sqlite3.Connection, part: Part) -> int:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS unimsg_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    )
    for statement in part.tables.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO unimsg_schema VALUES (?, ?)", (part.name, part.version))
    return part.version
