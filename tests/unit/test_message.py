"""Messages and their ids: unique, sortable, also in forked processes; data that nobody changes (promise 3)."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid

import pytest

from unimsg.message import Message, Position, Receipt, new_id


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    found = uuid.UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert before <= found.int >> 80 <= after
    assert str(found) == str(uuid.UUID(str(found)))


def test_ids_are_unique() -> None:
    assert len({new_id() for _ in range(100_000)}) == 100_000


def test_ids_of_later_milliseconds_sort_after_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for millisecond in (1, 2, 1000, 1_700_000_000_000, 1_700_000_000_001):
        monkeypatch.setattr("time.time_ns", lambda now=millisecond: now * 1_000_000)
        ids.append(new_id())
    assert ids == sorted(ids)


FORKS = """
import os, random
from unimsg.message import new_id
random.seed(7)
new_id()
pipes = []
for _ in range(8):
    read, write = os.pipe()
    if os.fork() == 0:
        random.seed(7)
        os.write(write, "\\n".join(new_id()[14:] for _ in range(100)).encode())
        os._exit(0)
    os.close(write)
    pipes.append(read)
seen = [line for read in pipes for line in open(read).read().split()] + [new_id()[14:] for _ in range(100)]
print(len(seen), len(set(seen)))
"""


def test_forked_processes_give_other_ids() -> None:
    """Also when the program seeds `random`: the noise of an id (all behind its time) is never the same twice."""
    run = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["900", "900"]


def test_a_message_has_an_id_of_its_own_unless_given() -> None:
    assert Message(body=1).id != Message(body=1).id
    assert Message(body=1, id="mine").id == "mine"
    assert Message(body=1, id=None).id is None


@pytest.mark.parametrize("value", [Message(body=1, id="m"), Receipt(id="x"), Position("p", 1)], ids=repr)
def test_what_travels_is_a_fact(value: object) -> None:
    field = value.__struct_fields__[0]  # type: ignore[attr-defined]  # a Struct has it
    with pytest.raises(AttributeError):
        setattr(value, field, "other")


def test_messages_compare_by_what_they_hold() -> None:
    assert Message(body=1, id="a") == Message(body=1, id="a")
    assert Message(body=1, id="a") != Message(body=2, id="a")
    assert Position("p", 1) == Position("p", 1)
    assert str(Position("orders", 15)) == "orders@15"
