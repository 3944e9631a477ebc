"""The one redactor: what it hides wherever it stands, and what it leaves alone."""

from __future__ import annotations

import pytest

from unimsg.options import redact

SECRET = "hunter2"  # noqa: S105 - what must never show

HIDDEN = [
    f"amqp://app:{SECRET}@host/vhost",
    f"amqp://:{SECRET}@host",
    f"amqp://app:{SECRET}@a,app:{SECRET}@b/vhost",
    f"amqp://app:at@{SECRET}@host",
    f"amqp://app:sl/{SECRET}@host",
    f"amqp://app:qu?{SECRET}@host",
    f"amqp://app%3A{SECRET}@host",
    f"cannot reach amqp://app:{SECRET}@host: refused",
    f"app:{SECRET}@host",
    f"redis://host?url=amqp%3A%2F%2Fapp%3A{SECRET}%40host",
    f"redis://host?url=amqp%3a%2f%2fapp:{SECRET}@host",
    f"sqs://eu?secret_access_key={SECRET}",
    f"sqs://eu?session_token={SECRET}&x=1",
    f"kafka://h?sasl_password={SECRET}",
    f"kafka://h?sasl_password%3D{SECRET}",
    f"h?password=a,{SECRET};b",
    f"h?PASSWORD={SECRET}",
    f"h?pwd={SECRET}",
    f"password = {SECRET}",
    f'password: "a {SECRET}"',
    f"password='a {SECRET}'",
    f'{{"password": "a {SECRET}"}}',
    f"{{'client_secret': 'a {SECRET}'}}",
    f"api_key={SECRET}",
    f"apikey={SECRET}",
    f"X-Amz-Signature={SECRET}",
    f"X-Amz-Credential={SECRET}",
    f"Authorization: Bearer {SECRET}{SECRET}",
    f"authorization: basic {SECRET}{SECRET}==",
    f"passphrase={SECRET}",
    f"private_key={SECRET}",
    f"ValueError('bad password={SECRET}')",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_a_secret_is_hidden(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize("text", HIDDEN)
def test_hiding_twice_changes_nothing_that_matters(text: str) -> None:
    assert SECRET not in redact(redact(text))


def test_an_access_key_of_aws_is_known_by_its_form() -> None:
    assert redact("key AKIAIOSFODNN7EXAMPLE here") == "key *** here"


@pytest.mark.parametrize(
    "text",
    [
        "memory://orders?lease=20s",
        "sqlite:////var/a@b.db",
        "kafka://b1:9092,b2:9092?auth=scram",
        "the queue has 5 messages: stop them first",
        "amqp://app@host/vhost",
        "orders@15",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"amqp://app:{SECRET}@host/vhost?x=1", "amqp://app:***@host/vhost?x=1"),
        (f"h?a=1&password={SECRET}&b=2", "h?a=1&password=***&b=2"),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
