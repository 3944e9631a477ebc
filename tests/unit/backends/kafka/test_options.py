"""Options of `kafka://` and `msk://`: what a URL says, what is refused before any I/O, what never shows.

Law: no broker; promises of the URL grammar and of safe defaults.
"""

from __future__ import annotations

from typing import Any

import pytest

from unimsg.backends.kafka.capabilities import BATCH_LIMIT, ROOM, declare, refine
from unimsg.backends.kafka.connecting import access, tls
from unimsg.backends.kafka.options import Options
from unimsg.errors import OptionError
from unimsg.options import parse, render


def options(url: str) -> Options:
    found = parse(url, Options)
    assert isinstance(found, Options)
    return found


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://b1:9092,b2:9093", {"servers": "b1:9092,b2:9093"}),
        ("kafka://b1,b2:9093/", {"servers": "b1:9092,b2:9093"}),
        ("kafka://[::1]:9092", {"servers": "[::1]:9092"}),
        ("kafka://[::1]", {"servers": "[::1]:9092"}),
        (
            "kafka://al%40ice:se%3Acret@b1:9096?auth=scram",
            {"servers": "b1:9096", "user": "al@ice", "password": "se:cret", "auth": "scram"},
        ),
        ("msk://eu-west-1/orders", {"region": "eu-west-1", "cluster": "orders", "is_msk": True}),
        ("kafka://b1?handover=250ms&fetch=2MiB&acks=1", {"handover": 0.25, "fetch": 2 << 20, "acks": "1"}),
    ],
)
def test_a_url_is_read(url: str, said: dict[str, Any]) -> None:
    """And written again it is the same."""
    found = options(url)

    assert {name: getattr(found, name) for name in said} == said
    assert options(render(found, secrets=True)) == found


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("kafka://", "host:port"),
        ("kafka://b1:0", "host:port"),
        ("kafka://b1:x", "host:port"),
        ("kafka://b1:9092,", "host:port"),
        ("kafka://b1/orders", "host:port"),
        ("kafka://b1?auth=scram", "needs user"),
        ("kafka://alice:x@b1", "auth=scram"),
        ("kafka://b1?auth=iam", "msk://"),
        ("kafka://b1?auth=mtls", "needs cert"),
        ("kafka://b1?auth=mtls&cert=c.pem&tls=off", "TLS only"),
        ("kafka://b1?auth=oauth", "token_file"),
        ("kafka://alice:x@b1?auth=plain&password_file=f", "give one"),
        ("kafka://b1?acks=2", "one of all, 1, 0"),
        ("kafka://b1?session=1ms", "from 1s"),
        ("msk://eu-west-1", "region and cluster"),
        ("msk:///orders", "region and cluster"),
        ("msk://eu-west-1/a/b", "region and cluster"),
    ],
)
def test_what_cannot_work_is_refused(url: str, why: str) -> None:
    """Before any I/O, with what would be right."""
    with pytest.raises(OptionError, match=why):
        options(url)


def test_a_password_never_shows() -> None:
    """Not in repr, not in a URL for a log."""
    found = options("kafka://alice:hush@b1:9096?auth=scram")

    assert "hush" not in repr(found) + render(found)


@pytest.mark.parametrize(
    ("query", "method", "protocol"),
    [
        ("", "none", "PLAINTEXT"),
        ("?tls=on", "none", "SSL"),
        ("?auth=plain&user=a&password=b", "plain", "SASL_SSL"),
        ("?auth=scram&user=a&password=b&tls=off", "scram", "SASL_PLAINTEXT"),
        ("?auth=oauth&token_file=t", "oauth", "SASL_SSL"),
        ("?token_file=t", "oauth", "SASL_SSL"),
    ],
)
def test_no_secret_travels_in_the_clear_unless_that_is_said(query: str, method: str, protocol: str) -> None:
    """Safe by default: TLS comes with authentication."""
    found = options(f"kafka://b1{query}")

    assert found.method == method
    assert access(found, found.servers, found.method).settings["security_protocol"] == protocol


def test_certificates_and_names_are_checked_unless_insecure() -> None:
    """And nothing older than TLS 1.2 is spoken."""
    checked, unchecked = (
        tls(options("kafka://b1?tls=on"), "none"),
        tls(options("kafka://b1?tls=insecure"), "none"),
    )

    assert checked is not None
    assert unchecked is not None
    assert (checked.check_hostname, checked.minimum_version.name) == (True, "TLSv1_2")
    assert not unchecked.check_hostname


def test_files_that_are_not_there_are_named() -> None:
    """As a matter of configuration, not of the network."""
    with pytest.raises(OptionError, match="ca, cert or key cannot be read"):
        tls(options("kafka://b1?ca=/nowhere/ca.pem"), "none")
    with pytest.raises(OptionError, match="password_file cannot be read"):
        access(options("kafka://b1?auth=plain&user=a&password_file=/nowhere/p"), "b1:1", "plain")


def test_acks_and_a_single_broker_lower_what_is_promised() -> None:
    """Honest portability: the option that took it is named."""
    declared = declare(options("kafka://b1"))

    assert (declared.delivery, declared.durability) == ("at_least_once", "replicated")
    assert declared.max_message_bytes == BATCH_LIMIT - ROOM
    assert declare(options("kafka://b1?acks=1")).durability == "disk"
    assert declare(options("kafka://b1?acks=0")).delivery == "at_most_once"
    assert declare(options("kafka://b1?acks=0")).lowered["delivery"] == "option acks=0"
    assert refine(declared, 3) == declared
    assert refine(declared, 1).lowered == {"durability": "a cluster of one broker"}
