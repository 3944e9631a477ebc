"""Options of amqp:// and amqps:// by table: what a URL says, what is refused, what is promised then.

Law: no I/O.
"""

from __future__ import annotations

import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from unimsg.backends.rabbitmq import Options, declare
from unimsg.backends.rabbitmq.capabilities import refine, version_of
from unimsg.backends.rabbitmq.topology import arguments
from unimsg.backends.rabbitmq.trouble import Conflict, conflict, reason, refusal, translate
from unimsg.errors import MessageTooLargeError, NotFoundError, OptionError, PermissionDeniedError
from unimsg.options import parse, render


@pytest.mark.parametrize(
    ("url", "nodes", "vhost", "user"),
    [
        ("amqp://", [("localhost", 5672)], "/", None),
        ("amqps://mq.example", [("mq.example", 5671)], "/", None),
        ("amqp://a:1,b/", [("a", 1), ("b", 5672)], "/", None),
        ("amqp://bob:s%40cret@a/shop", [("a", 5672)], "shop", "bob"),
        ("amqp://bob:s/cret@a/%2Fshop", [("a", 5672)], "/shop", "bob"),
        ("amqp://[::1]:7,[::2]", [("::1", 7), ("::2", 5672)], "/", None),
    ],
)
def test_a_url_names_nodes_virtual_host_and_user(
    url: str, nodes: list[tuple[str, int]], vhost: str, user: str | None
) -> None:
    """As AMQP's own URLs do; it is parsed, shown and parsed again to the same."""
    options = parse(url, Options)

    assert (options.nodes, options.vhost, options.user) == (nodes, vhost, user)
    assert parse(render(options, secrets=True), Options) == options
    assert "cret" not in render(options)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://a:0", "host"),
        ("amqp://a/b/c", "%2F"),
        ("amqp://a?ca=x", "amqps"),
        ("amqp://a?queues=quorum&priority=true", "classic"),
        ("amqps://a?auth=external", "cert"),
        ("amqp://a?password=x&password_file=y", "give one"),
        ("amqp://a?heartbeat=0s", "1s"),
        ("amqp://a?queues=stream", "quorum"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, says: str) -> None:
    """Before any I/O, with what would be right."""
    with pytest.raises(OptionError, match=says):
        parse(url, Options)


def test_order_is_claimed_with_a_single_active_consumer_only() -> None:
    """Principle 1: shared queues have none; higher priorities take it away."""
    assert declare(Options()).ordering == "none"
    assert declare(Options(ordering="key")).ordering == "key"
    assert declare(Options(ordering="key", priority=True)).ordering == "none"
    assert arguments(Options(), (4, 0)) == {"x-queue-type": "quorum", "x-delivery-limit": -1}
    assert arguments(Options(ordering="key"), (4, 0))["x-single-active-consumer"] is True


@pytest.mark.parametrize(
    ("told", "version", "ttl"),
    [
        ({"product": "RabbitMQ", "version": "4.0.5"}, (4, 0, 5), True),
        ({"product": "RabbitMQ", "version": "3.9.1-rc.1"}, (3, 9, 1), False),
        ({"product": "RabbitMQ", "version": "next"}, (), True),
        ({"product": "LavinMQ", "version": "2.0.0"}, (), True),
    ],
)
def test_a_server_tells_its_version(told: dict[str, str], version: tuple[int, ...], ttl: bool) -> None:
    """What an old one cannot do is lowered at open; an unknown one is taken as it is."""
    assert version_of(told) == version
    assert refine(declare(Options()), "quorum", version).ttl is ttl


def test_before_4_0_there_is_no_limit_to_take_away() -> None:
    """There, -1 would be refused."""
    assert "x-delivery-limit" not in arguments(Options(), (3, 13))


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (404, "NOT_FOUND - no queue 'q' in vhost '/'", NotFoundError),
        (530, "NOT_ALLOWED - vhost nope not found", NotFoundError),
        (530, "NOT_ALLOWED - access to vhost 'x' refused for user 'y'", PermissionDeniedError),
        (403, "ACCESS_REFUSED - Login was refused", PermissionDeniedError),
    ],
)
def test_a_code_has_its_error(code: int, text: str, expected: type[Exception]) -> None:
    """Rule 7: these end the first open."""
    assert type(translate(ConnectionClosedByBroker(code, text))) is expected


@pytest.mark.parametrize(
    ("text", "both"),
    [
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': "
                "received the value 'quorum' of type 'longstr' but current is the value 'classic' of type 'longstr'"
            ),
            Conflict("x-queue-type", "quorum", "classic"),
        ),
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': "
                "received none but current is the value '5' of type 'signedint'"
            ),
            Conflict("x-max-length", "none", "5"),
        ),
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': "
                "received 'fanout' but current is 'topic'"
            ),
            Conflict("type", "fanout", "topic"),
        ),
    ],
)
def test_a_conflict_shows_both_sides(text: str, both: Conflict) -> None:
    """What was asked for, and what there is."""
    error = ChannelClosedByBroker(406, text)

    assert conflict(error) == both
    assert both.is_ in str(translate(error))
    assert both.wanted in str(translate(error))


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (
            406,
            "PRECONDITION_FAILED - message size 11 is larger than configured max size 10",
            MessageTooLargeError,
        ),
        (403, "ACCESS_REFUSED - write access to exchange 'e' in vhost '/' refused", PermissionDeniedError),
        (404, "NOT_FOUND - no exchange 'e' in vhost '/'", NotFoundError),
        (406, "PRECONDITION_FAILED - unknown delivery tag 7", type(None)),
        (541, "INTERNAL_ERROR", type(None)),
    ],
)
def test_what_a_server_has_against_a_message(code: int, text: str, kind: type[object]) -> None:
    """Whatever else ends a channel says nothing about what was in flight."""
    assert type(refusal(ChannelClosedByBroker(code, text))) is kind


def test_a_channel_that_ended_for_a_slow_handler_says_what_to_do() -> None:
    """Other reasons are told as the server tells them."""
    late = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms."

    assert "consumer-timeout=" in reason(ChannelClosedByBroker(406, late))
    assert "gone" in reason(ChannelClosedByBroker(404, "gone"))


def test_what_a_queue_is_lowers_what_is_promised() -> None:
    """Principle 1: a transient queue keeps nothing, whatever the options say."""
    assert refine(declare(Options()), "quorum", (4, 0)).durability == "disk"
    assert refine(declare(Options()), "classic", (4, 0), durable=False).durability == "memory"
    assert refine(declare(Options(priority=True)), "quorum", (4, 0)).priority is False
    assert refine(declare(Options(priority=True)), "classic", (4, 0)).priority is True
