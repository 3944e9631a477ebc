"""Each way of authentication works on a real broker, and each mistake has an error of its own.

Law: rule 7 of the contract: what is wrong with who we are is permanent at the first open, with its cause.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import unimsg
from tests.kafka.conftest import MakeTopic
from tools.brokers.kafka import PASSWORD, USER
from unimsg.backends.kafka import Options
from unimsg.errors import ConnectError, NotFoundError, OptionError, PermissionDeniedError

Listener = Callable[[str], str]


def token(seconds: float) -> Callable[[], Awaitable[str]]:
    """A token that the broker takes for so many seconds."""

    async def make() -> str:
        now = time.time()
        claims = {"sub": USER, "iat": now - 60, "exp": now + seconds}
        parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."

    return make


async def works(options: Options | str, topic: str) -> None:
    """A message goes out and comes back."""
    async with unimsg.connect(options) as client:
        await client.publish(topic, "hello")
        got: list[object] = []

        async def note(delivery: unimsg.Delivery[object]) -> None:
            got.append(delivery.body)

        await client.subscriber(topic, group=topic).run_until_idle(note)
    assert got == ["hello"]


@pytest.mark.parametrize("auth", ["plain", "scram", "scram-256"])
@pytest.mark.parametrize("at", ["SASL_SSL", "SASL_PLAINTEXT"])
async def test_a_password_is_accepted(
    auth: str, at: str, listener: Listener, certificates: Path, topic: MakeTopic
) -> None:
    """Over TLS with an authority of our own, and in plain text where that is said."""
    way = f"&ca={certificates}/ca.pem" if at == "SASL_SSL" else "&tls=off"

    await works(f"kafka://{USER}:{PASSWORD}@{listener(at)}?auth={auth}{way}", await topic())


async def test_a_password_from_a_file_is_accepted(
    listener: Listener, certificates: Path, topic: MakeTopic, tmp_path: Path
) -> None:
    """Its last line may end."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    query = f"auth=scram&user={USER}&password_file={secret}&ca={certificates}/ca.pem"

    await works(f"kafka://{listener('SASL_SSL')}?{query}", await topic())


async def test_a_certificate_is_accepted(listener: Listener, certificates: Path, topic: MakeTopic) -> None:
    """One file may hold certificate and key."""
    query = f"auth=mtls&ca={certificates}/ca.pem&cert={certificates}/client.pem"

    await works(f"kafka://{listener('MTLS')}?{query}", await topic())


async def test_a_token_is_accepted(listener: Listener, certificates: Path, topic: MakeTopic) -> None:
    """From a function of the program."""
    options = Options(
        servers=listener("SASL_SSL"), auth="oauth", token=token(60), ca=f"{certificates}/ca.pem"
    )

    await works(options, await topic())


async def test_a_token_from_a_file_is_accepted(listener: Listener, topic: MakeTopic, tmp_path: Path) -> None:
    """Read anew at each connection."""
    file = tmp_path / "token"
    file.write_text(await token(60)())

    await works(f"kafka://{listener('SASL_PLAINTEXT')}?auth=oauth&token_file={file}&tls=off", await topic())


MISTAKES: dict[str, tuple[str, str, Any, str]] = {
    "wrong password": (
        "SASL_SSL",
        f"user={USER}&password=wrong&auth=scram&ca=CA",
        PermissionDeniedError,
        "refused",
    ),
    "unknown user": (
        "SASL_SSL",
        "user=bob&password=wrong&auth=plain&ca=CA",
        PermissionDeniedError,
        "refused",
    ),
    "unknown authority": ("SASL_SSL", f"user={USER}&password=x&auth=scram", OptionError, "ca="),
    "wrong authority": ("SASL_SSL", f"user={USER}&password=x&auth=scram&ca=STRANGER", OptionError, "ca="),
    "no client certificate": ("MTLS", "tls=on&ca=CA", PermissionDeniedError, "cert="),
    "plain text to a TLS port": ("SASL_SSL", "", OptionError, "tls=on"),
    "TLS to a plain port": ("PLAINTEXT", "tls=on&ca=CA", (OptionError, ConnectError), "TLS|reached"),
    "mechanism not offered": ("IAM", f"user={USER}&password=x&auth=scram&ca=CA", OptionError, "auth="),
    "no password to a port that wants one": ("SASL_PLAINTEXT", "", ConnectError, "no broker"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_told(mistake: str, listener: Listener, url: str, certificates: Path) -> None:
    """By its own error, in less than five seconds, with what to do; at the first open it is permanent."""
    at, query, kind, told = MISTAKES[mistake]
    servers = url.removeprefix("kafka://") if at == "PLAINTEXT" else listener(at)
    query = query.replace("CA", f"{certificates}/ca.pem").replace("STRANGER", f"{certificates}/stranger.pem")

    with pytest.raises(kind, match=told) as raised:
        async with unimsg.connect(f"kafka://{servers}?open_timeout=5s&{query}".rstrip("&")):
            pass
    assert "wrong" not in str(raised.value)


async def test_an_expired_token_is_told(listener: Listener) -> None:
    """The broker answers it with silence, and the client library takes that for a success."""
    options = Options(
        servers=listener("SASL_PLAINTEXT"), auth="oauth", token=token(-5), tls="off", open_timeout=5.0
    )

    with pytest.raises(PermissionDeniedError, match="token"):
        async with unimsg.connect(options):
            pass


async def test_a_token_that_cannot_be_had_is_told(listener: Listener) -> None:
    """The program's own error is the cause."""

    async def none() -> str:
        raise LookupError("the vault is closed")

    with pytest.raises(PermissionDeniedError, match="the vault is closed"):
        async with unimsg.connect(
            Options(servers=listener("SASL_PLAINTEXT"), auth="oauth", token=none, tls="off")
        ):
            pass


async def test_a_broker_that_is_not_there_is_told() -> None:
    """At once: one attempt, no retry."""
    with pytest.raises(ConnectError, match="no broker could be reached"):
        async with unimsg.connect("kafka://127.0.0.1:1"):
            pass


async def test_one_of_several_servers_is_enough(url: str, topic: MakeTopic) -> None:
    """The others are only asked when it does not answer."""
    await works(url.replace("kafka://", "kafka://127.0.0.1:1,"), await topic())


async def test_a_topic_that_is_not_there_is_told(url: str) -> None:
    """Both ways, in moments and not in the forty seconds that the client library takes."""
    async with unimsg.connect(url) as client:
        with pytest.raises(NotFoundError, match="unimsg provision"):
            await client.publish("missing", "x", timeout=5)
        with pytest.raises(NotFoundError, match="unimsg provision"):
            await client.subscriber("missing", group="nobody").run(_never)


async def _never(_: object) -> None:
    """Nothing comes."""
