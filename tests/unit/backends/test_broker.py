"""What backends share that open sockets to a broker: places, secrets in files, and what TLS says."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from unimsg.backends._broker.access import read_secret, tls_trouble
from unimsg.backends._broker.place import pairs, parse
from unimsg.errors import OptionError, PermissionDeniedError


@pytest.mark.parametrize(
    ("text", "hosts", "who"),
    [
        ("a", "a:1", {}),
        ("a:7,b", "a:7,b:1", {}),
        ("[::1]", "[::1]:1", {}),
        ("[::1]:7,10.0.0.1", "[::1]:7,10.0.0.1:1", {}),
        ("", "here:1", {}),
        ("u@a", "a:1", {"user": "u"}),
        ("u:p%40:/w@a", "a:1", {"user": "u", "password": "p@:/w"}),
        ("u:p@w@a", "a:1", {"user": "u", "password": "p@w"}),
    ],
)
def test_a_place_is_hosts_and_who_asks(text: str, hosts: str, who: dict[str, str]) -> None:
    """A password may hold what parts a URL: hosts begin behind the last @."""
    assert parse(text, 1, host="here") == (hosts, who)


@pytest.mark.parametrize(
    "text", ["", "a,", ":7", "a:0", "a:65536", "a:x", "a:b:7", "[::1", "a]:7", "a/b", "[a b]:7", "a?x=1"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    """Before any I/O, with the form that is right."""
    with pytest.raises(OptionError, match="host:port"):
        parse(text, 1)


def test_a_place_parts_into_pairs() -> None:
    """As sockets want them."""
    assert pairs(parse("a,[::1]:7", 1).hosts) == [("a", 1), ("::1", 7)]


def test_a_secret_loses_the_end_of_its_line_and_nothing_else(tmp_path: Path) -> None:
    """An editor adds that; a blank may be meant."""
    file = tmp_path / "password"
    file.write_bytes(b" s3cret \r\n")

    assert read_secret(str(file), "password_file", backend="x") == " s3cret "
    file.write_bytes(b"\xff")
    with pytest.raises(OptionError, match="password_file"):
        read_secret(str(file), "password_file", backend="x")


def _ssl(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, reason)
    error.reason = reason
    return error


def _told(error: BaseException) -> type[BaseException] | None:
    ours = tls_trouble(error, backend="x", plain="x://")
    return None if ours is None else type(ours)


def test_only_what_stays_wrong_with_tls_is_an_error_for_good() -> None:
    """Rule 7 of the contract: a handshake that a dying broker broke off is tried again, like any connection."""
    behind = ConnectionError("no")
    behind.__cause__ = _ssl("WRONG_VERSION_NUMBER")

    assert _told(_ssl("TLSV1_ALERT_UNKNOWN_CA")) is PermissionDeniedError
    assert _told(_ssl("WRONG_VERSION_NUMBER")) is OptionError
    assert _told(behind) is OptionError
    assert _told(_ssl("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError)) is None
    assert _told(ConnectionResetError("reset")) is None
