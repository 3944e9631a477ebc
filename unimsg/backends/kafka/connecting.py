"""Connecting: from options to what a client of aiokafka takes, and the first word with a broker.

Law: one attempt each time, no retry. aiokafka itself says "unable to bootstrap" for a wrong password, an unknown
authority and a closed port alike, and finds an expired token only later; so a connection of our own asks first.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from unimsg.backends._broker.access import read_secret, tls_context
from unimsg.backends.kafka.options import Options
from unimsg.backends.kafka.trouble import NAME, translate
from unimsg.errors import ConnectError, Error, OptionError, PermissionDeniedError, TimedOutError

log = logging.getLogger("unimsg.backends.kafka")

MECHANISMS = {
    "plain": "PLAIN",
    "scram": "SCRAM-SHA-512",
    "scram-256": "SCRAM-SHA-256",
    "oauth": "OAUTHBEARER",
    "iam": "OAUTHBEARER",
}
METADATA_AGE = 60.0
"""Seconds after which partitions that were added are seen."""


class Access(NamedTuple):
    """How to reach a cluster.

    Attributes:
        servers: whom to ask first.
        settings: what every client of aiokafka is made with, `servers` included.
    """

    servers: tuple[str, ...]
    settings: Mapping[str, Any]


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is not seen by the checker
    """Gives aiokafka a token for each connection."""

    def __init__(self, source: Callable[[], Awaitable[str]]) -> None:
        self._source = source

    async def token(self) -> Any:  # noqa: ANN401 - text; aiokafka says None and means text
        """Return a token that is good now.

        Raises:
            PermissionDeniedError: there is none.
        """
        try:
            return await self._source()
        except Error:
            raise
        except Exception as error:
            raise PermissionDeniedError(f"no token could be had: {error}", backend=NAME) from error


def access(
    options: Options, servers: str, auth: str, token: Callable[[], Awaitable[str]] | None = None
) -> Access:
    """Return how to reach the cluster behind `servers` with one way of authentication; reads files.

    Raises:
        OptionError: a file cannot be read, or holds nothing usable.
    """
    context = tls(options, auth)
    settings: dict[str, Any] = {
        "bootstrap_servers": servers.split(","),
        "client_id": options.client_id,
        "request_timeout_ms": int(options.request_timeout * 1000),
        "metadata_max_age_ms": int(METADATA_AGE * 1000),
        "security_protocol": "PLAINTEXT" if context is None else "SSL",
        "ssl_context": context,
    }
    if auth in MECHANISMS:
        settings["security_protocol"] = "SASL_PLAINTEXT" if context is None else "SASL_SSL"
        settings["sasl_mechanism"] = MECHANISMS[auth]
    if auth in ("oauth", "iam"):
        settings["sasl_oauth_token_provider"] = Tokens(token or _token(options))
    elif auth in MECHANISMS:
        settings["sasl_plain_username"] = options.user
        file = options.password_file
        settings["sasl_plain_password"] = (
            options.password if file is None else read_secret(file, "password_file", backend=NAME)
        )
    return Access(tuple(servers.split(",")), settings)


def tls(options: Options, auth: str) -> ssl.SSLContext | None:
    """Return the TLS context; None: plain text."""
    plain = options.tls == "off" or (options.tls == "auto" and auth == "none" and not options.ca)
    return None if plain and options.ssl_context is None else tls_context(options, backend=NAME)


def _token(options: Options) -> Callable[[], Awaitable[str]]:
    if options.token is not None:
        return options.token  # type: ignore[no-any-return]  # what the program gave

    async def from_file() -> str:
        return await asyncio.to_thread(read_secret, options.token_file or "", "token_file", backend=NAME)

    return from_file


# ---------------------------------------------------------------- the first word


async def greet(access: Access) -> int:
    """Ask one server after the other who is there; return how many brokers the first that answers knows.

    Raises:
        PermissionDeniedError: a broker refused who we are.
        OptionError: TLS does not fit: an authority that is not known, plain text to a TLS port or the reverse.
        ConnectError, TimedOutError: nobody answered.
    """
    trouble: list[Error] = []
    for server in access.servers:
        try:
            return await _greet_one(access.settings, server)
        except (KafkaError, OSError, TimeoutError, Error, ValueError, AssertionError) as error:
            ours = error if isinstance(error, Error) else translate(error) or _unknown(error)
            if ours is not error:
                ours.__cause__ = error
            trouble.append(ours)
    telling = [error for error in trouble if not isinstance(error, (ConnectError, TimedOutError))]
    raise (telling or trouble)[0]


async def _greet_one(settings: Mapping[str, Any], server: str) -> int:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    taken = {
        name: settings[name] for name in settings if name not in ("bootstrap_servers", "metadata_max_age_ms")
    }
    connection: Any = AIOKafkaConnection(host, int(port), **taken)
    bearer = settings.get("sasl_mechanism") == "OAUTHBEARER"
    try:
        await _connect(connection, server, plain=settings["ssl_context"] is None)
        try:
            answer = await connection.send(MetadataRequest([]))
        except KafkaError as error:
            raise _token_refused(server) if bearer else error from None
    finally:
        await _end(connection)
    if not answer.brokers:
        raise _token_refused(server) if bearer else ConnectError(f"{server} knows no broker", backend=NAME)
    return len(answer.brokers)


async def _connect(connection: Any, server: str, *, plain: bool) -> None:  # noqa: ANN401 - aiokafka's
    try:
        await connection.connect()
    except (KafkaError, ConnectionError):
        if plain and await _speaks_tls(connection.host, connection.port):
            raise OptionError(
                f"{server} speaks TLS, and it was asked in plain text: give tls=on, or auth=", backend=NAME
            ) from None
        raise


async def _end(connection: Any) -> None:  # noqa: ANN401 - aiokafka's
    """End a connection, also one that failed half-way: aiokafka closes that and does not wait, which TLS needs."""
    transport = getattr(connection._protocol, "_transport", None)  # noqa: SLF001 - it keeps that nowhere else
    ending = connection.close()
    if transport is None:  # it never came to a connection, or that is gone
        return
    try:
        await asyncio.wait((ending,), timeout=1.0)
    finally:
        transport.abort()


def _token_refused(server: str) -> Error:
    """A token that is refused is answered as if it were not: what comes next gets no answer, or one without sense.

    Source: KIP-255, the client must send one more byte and read the reason; aiokafka 0.14 does not.
    """
    return PermissionDeniedError(
        f"{server} did not accept the token: it may be expired, or not meant for this cluster", backend=NAME
    )


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether a server that did not understand us understands TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()  # nothing was said, so nothing is owed
    return True


def _unknown(error: BaseException) -> Error:
    if isinstance(error, OSError):
        return ConnectError(f"no broker could be reached: {error}", backend=NAME)
    return ConnectError(f"the broker answered what was not understood: {error!r}", backend=NAME)


def error_of(code: int) -> Exception | None:
    """Return aiokafka's error for the code in an answer; None: no error."""
    if code == 0:
        return None
    found: Exception = for_code(code)()
    return found
