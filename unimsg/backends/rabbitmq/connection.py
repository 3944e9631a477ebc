"""Connection: pika's callbacks as coroutines; one attempt over the nodes of a URL, channels, and an end.

Law: no retry, no policy. pika's own `close()` closes the channels first, which sends late deliveries to the tail of
their queue; here the connection is closed at once, so that what is not settled comes back in order.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.credentials import ExternalCredentials, PlainCredentials
from pika.exceptions import AMQPError, ConnectionClosedByClient

from unimsg.backends._broker.access import read_secret, tls_context
from unimsg.backends.rabbitmq.options import Options
from unimsg.backends.rabbitmq.trouble import NAME, NOT_ALLOWED, REFUSED, innermost, unreached

PATIENCE = 1.0
"""Seconds for a handshake to end that nobody waits for any more."""
CLOSING = 3.0
"""Seconds for a node to answer that we leave; then the socket is dropped."""


class Connection:
    """One connection to one node."""

    def __init__(self, native: Any) -> None:  # noqa: ANN401 - pika's
        self.native = native
        self.error: BaseException | None = None
        self.flows = asyncio.Event()
        """Not set while the server takes no publishes: it is short of memory or disk."""
        self.flows.set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        native.add_on_close_callback(self._on_close)
        native.add_on_connection_blocked_callback(lambda *_: self.flows.clear())
        native.add_on_connection_unblocked_callback(lambda *_: self.flows.set())

    @property
    def live(self) -> bool:
        """Whether it can be used."""
        return self.error is None and bool(self.native.is_open)

    @property
    def properties(self) -> dict[str, Any]:
        """What the server says of itself."""
        return dict(self.native.server_properties or {})

    def _on_close(self, _: object, error: BaseException) -> None:
        self.error = error
        self.flows.set()
        if not self._ended.done():
            self._ended.set_result(None)

    async def channel(self) -> Channel:
        """Open a channel; cancelled, it is closed as soon as it is open."""
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_open(native: Any) -> None:  # noqa: ANN401 - pika's
            if opened.done():
                native.close()
            else:
                opened.set_result(native)

        channel = Channel(self.native.channel(on_open_callback=on_open))
        await channel.wait(opened)
        return channel

    async def aclose(self, *, abort: bool = False) -> None:
        """Leave; what was written before is taken by the node first, unless it is to `abort`.

        Cancelled, it drops the socket at once.
        """
        native = self.native
        try:
            if native.is_open and not abort:
                # pika has no public way that leaves the channels to the server, see above
                native._set_connection_state(native.CONNECTION_CLOSING)  # noqa: SLF001 - as said
                native._error = ConnectionClosedByClient(200, "bye")  # noqa: SLF001 - as said
                native._send_connection_close(200, "bye")  # noqa: SLF001 - as said
                await asyncio.wait((self._ended,), timeout=CLOSING)
        finally:
            if not self._ended.done():
                native._terminate_stream(ConnectionClosedByClient(200, "dropped"))  # noqa: SLF001 - as said
        await asyncio.wait((self._ended,), timeout=CLOSING)


class Channel:
    """One channel: what is asked on it is awaited, and ends when it does."""

    def __init__(self, native: Any) -> None:  # noqa: ANN401 - pika's
        self.native = native
        self.error: BaseException | None = None
        self.on_close: Callable[[BaseException], None] | None = None
        self._waiting: set[asyncio.Future[Any]] = set()
        native.add_on_close_callback(self._on_close)

    def _on_close(self, _: object, error: BaseException) -> None:
        self.error = error
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
        if self.on_close is not None:
            self.on_close(error)

    async def wait(self, future: asyncio.Future[Any]) -> Any:  # noqa: ANN401 - pika's frame
        """Return what a callback gives; raises why the channel ended before."""
        if self.error is not None:
            raise self.error
        self._waiting.add(future)
        try:
            return await future
        finally:
            self._waiting.discard(future)

    async def ask(self, method: str, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - pika's
        """Call one of pika's methods and return the frame that answers it."""
        if self.error is not None:
            raise self.error
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        getattr(self.native, method)(*args, callback=lambda frame: _give(answer, frame), **settings)
        return await self.wait(answer)

    async def aclose(self) -> None:
        """Close it alone; nothing is being consumed on it."""
        if self.error is None and self.native.is_open:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.on_close = lambda _: _give(ended, None)
            self.native.close()
            await asyncio.wait((ended,), timeout=CLOSING)


def _give(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


# ---------------------------------------------------------------- connecting


async def connect(options: Options, turn: int) -> Connection:
    """Connect to the first node that answers, beginning with the one whose turn it is: one attempt.

    Raises:
        Error: what the last node that was asked said, with its cause; one that refuses us ends the attempt.
    """
    nodes = options.nodes
    encrypted = options.scheme == "amqps"
    context = await asyncio.to_thread(tls_context, options, backend=NAME) if encrypted else None
    password = options.password or "guest"
    if options.password_file is not None:
        password = await asyncio.to_thread(read_secret, options.password_file, "password_file", backend=NAME)
    limit = options.open_timeout / len(nodes) * 0.9
    last: BaseException = TimeoutError()
    for at in range(len(nodes)):
        host, port = nodes[(turn + at) % len(nodes)]
        try:
            return await _attempt(_parameters(options, host, port, context, password, limit), limit)
        except (AMQPError, OSError, TimeoutError) as error:
            last = innermost(error)
            if getattr(last, "reply_code", None) in (REFUSED, NOT_ALLOWED):
                break
    raise unreached(last) from last


async def _attempt(parameters: Any, limit: float) -> Connection:  # noqa: ANN401 - pika's
    """Connect to one node; given up, it leaves no socket behind."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    loop: Any = _Loop()  # all that pika asks of one
    way = AsyncioConnection.create_connection(
        [parameters], on_done=lambda result: _give(ended, result), custom_ioloop=loop
    )
    try:
        async with asyncio.timeout(limit):
            result = await asyncio.shield(ended)
    except BaseException:
        await asyncio.wait((ended,), timeout=PATIENCE)
        if not ended.done():
            _abandon(way)
            await asyncio.wait((ended,), timeout=CLOSING)
        if ended.done() and isinstance(ended.result(), AsyncioConnection):
            await Connection(ended.result()).aclose(abort=True)
        raise
    if isinstance(result, BaseException):
        raise innermost(result)
    return Connection(result)


def _abandon(way: Any) -> None:  # noqa: ANN401 - pika's
    """End an attempt to connect, wherever it stands: pika's own abort fails an assertion in a handshake."""
    half_open = getattr(way._connector, "_amqp_conn", None)  # noqa: SLF001 - as said
    if half_open is None:
        way.abort()
    else:
        half_open._terminate_stream(ConnectionClosedByClient(200, "given up"))  # noqa: SLF001 - as said


class _Loop:
    """The running loop; an address that is a number is not looked up in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a loop has
        return getattr(self._loop, name)

    async def getaddrinfo(self, host: str, port: int, **settings: Any) -> Any:  # noqa: ANN401 - as the loop's
        """Return the addresses of a host."""
        try:
            numeric = {**settings, "flags": socket.AI_NUMERICHOST}
            return socket.getaddrinfo(host, port, **numeric)
        except socket.gaierror:
            return await self._loop.getaddrinfo(host, port, **settings)


def _parameters(
    options: Options, host: str, port: int, context: ssl.SSLContext | None, password: str, limit: float
) -> Any:  # noqa: ANN401 - pika's
    credentials: Any = (
        ExternalCredentials()
        if options.auth == "external"
        else PlainCredentials(options.user or "guest", password)
    )
    return pika.ConnectionParameters(
        host=host,
        port=port,
        virtual_host=options.vhost,
        credentials=credentials,
        heartbeat=max(1, round(options.heartbeat)),
        ssl_options=None if context is None else pika.SSLOptions(context, host),
        connection_attempts=1,
        socket_timeout=limit,
        stack_timeout=limit,
        client_properties={"connection_name": options.name, "product": "unimsg"},
    )
