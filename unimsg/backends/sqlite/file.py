"""The tables of a broker in a file, and their version.

Law: data; they carry a prefix, so that the file may be an application's own database.
"""

from __future__ import annotations

from unimsg.sqlitefile.place import Part

VERSION = 2
"""Of the tables below; a file with a higher one was made by a newer unimsg."""
BITS = 40
"""A row number is the number of its destination or group, then the offset in so many bits: one tree, in order."""

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
    fence INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    first_failed REAL
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

PART = Part("messages", VERSION, TABLES, cure="drain it with the unimsg that made it")
