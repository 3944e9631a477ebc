"""Connection: one STOMP connection from CONNECT to its end, and what the broker answers on it.

Law: one generation; it is never reopened, a new one is made. A receipt belongs to the connection that asked for it and
is counted once. An ERROR ends the connection and fails what it names; all else that waits is then without an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import cast

from unimsg.backends._broker.access import read_secret, tls_context
from unimsg.backends.activemq import stomp, trouble
from unimsg.backends.activemq.options import Options
from unimsg.errors import (
    ClosedError,
    ConnectError,
    ConnectionLostError,
    Error,
    OptionError,
    PermissionDeniedError,
    TimedOutError,
)

log = logging.getLogger("unimsg.backends.activemq")

HIGH_WATER = 1 << 20
"""Bytes that may wait to be written before a writer waits."""
GRACE = 2
"""Times a heart-beat that a silent broker is given."""
LEAVING = 2.0
"""Seconds for the answer to DISCONNECT."""

_receipts = count(1)
"""For all connections: no answer of one is taken for another's."""


class Answers:
    """What the broker says to frames that were sent together; `done` when it has said all of it."""

    def __init__(self, size: int) -> None:
        self.results: list[Error | None] = [None] * size
        self.open = set(range(size))
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self, index: int, error: Error | None) -> None:
        """One was answered."""
        self.results[index] = error
        self.open.discard(index)
        if not self.open:
            self.end()

    def end(self) -> None:
        """No more will come."""
        if not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection; made by `connect`.

    Args:
        options: of the URL.
        deliver: takes each MESSAGE frame.
        lost: told once when the connection has ended, with the reason.
    """

    def __init__(
        self,
        options: Options,
        deliver: Callable[[stomp.Frame], None] | None = None,
        lost: Callable[[Error], None] | None = None,
    ) -> None:
        self._options = options
        self._deliver = deliver
        self._lost = lost
        self._parser = stomp.Parser(options.max_body * 2 + stomp.HEAD_LIMIT)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connected: asyncio.Future[stomp.Frame] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[str, tuple[Answers, int]] = {}
        self._writable: asyncio.Future[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._heard = self._spoke = self._loop.time()
        self.session = ""
        """What the broker calls it."""
        self.error: Error | None = None
        """Why it ended; None while it is good."""

    # ------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self._heard = self._loop.time()
        try:
            for frame in self._parser.feed(data):
                self._take(frame)
        except stomp.ProtocolError as error:
            self._end(trouble.translate(error) or ConnectionLostError(str(error), backend=trouble.NAME))

    def pause_writing(self) -> None:
        """The broker takes no more for now."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        why = f": {exc}" if exc is not None else ""
        self._end(ConnectionLostError(f"the broker closed the connection{why}", backend=trouble.NAME))
        if not self._ended.done():
            self._ended.set_result(None)

    # ------------------------------------------------------------ in

    def _take(self, frame: stomp.Frame) -> None:
        if frame.command == "MESSAGE":
            if self._deliver is not None and self.error is None:
                self._deliver(frame)
        elif frame.command == "RECEIPT":
            self._answered(frame.headers.get("receipt-id", ""), None)
        elif frame.command == "CONNECTED":
            if not self._connected.done():
                self._connected.set_result(frame)
        elif frame.command == "ERROR":
            self._refused(frame)
        else:
            raise stomp.ProtocolError(f"a broker does not send {frame.command[:20]!r}")

    def _answered(self, receipt: str, error: Error | None) -> None:
        found = self._waiting.pop(receipt, None)
        if found is not None:
            answers, index = found
            answers.set(index, error)

    def _refused(self, frame: stomp.Frame) -> None:
        error = trouble.refusal(frame)
        receipt = frame.headers.get("receipt-id")
        if receipt is not None:
            self._answered(receipt, error)
        if isinstance(error, (PermissionDeniedError, OptionError)):
            self._end(error)
        else:
            self._end(
                ConnectionLostError(
                    f"the broker ended the connection: {error.sentence}", backend=trouble.NAME
                )
            )

    def _end(self, error: Error) -> None:
        """The connection is over, whether the socket knows it or not; only the first reason counts."""
        if self.error is not None:
            return
        self.error = error
        for timer in self._timers:
            timer.cancel()
        if not self._connected.done():
            self._connected.set_exception(error)
            self._connected.exception()  # whoever connects may have given up
        self.resume_writing()
        waiting, self._waiting = self._waiting, {}
        for answers, _ in waiting.values():
            answers.end()
        if self._transport is not None:
            self._transport.abort()
        if self._lost is not None:
            self._lost(error)

    # ------------------------------------------------------------ out

    def expect(self, answers: Answers, index: int) -> str:
        """Return a new receipt id, whose answer is `index` of `answers`."""
        receipt = f"r{next(_receipts)}"
        self._waiting[receipt] = answers, index
        return receipt

    def forget(self, receipts: Sequence[str]) -> None:
        """Nobody waits for these any more."""
        for receipt in receipts:
            self._waiting.pop(receipt, None)

    async def write(self, data: bytes) -> None:
        """Write, then wait while too much is waiting to be written.

        Raises:
            Error: the connection has ended; nothing of `data` was written.
        """
        self.write_now(data)
        while self._writable is not None and self.error is None:
            await asyncio.shield(self._writable)

    def write_now(self, data: bytes) -> None:
        """Write without waiting."""
        if self.error is not None or self._transport is None:
            raise self.error or ConnectionLostError("the connection is closed", backend=trouble.NAME)
        self._spoke = self._loop.time()
        self._transport.write(data)

    async def ask(self, command: str, headers: dict[str, str], *, within: float) -> None:
        """Send a frame and return when the broker has done it.

        Raises:
            Error: it refused, or the connection ended; TimedOutError: no answer came within so many seconds.
        """
        answers = Answers(1)
        receipt = self.expect(answers, 0)
        try:
            async with asyncio.timeout(within):
                await self.write(stomp.encode(command, {**headers, "receipt": receipt}))
                await answers.done
        except TimeoutError:
            raise TimedOutError(f"no answer to {command} within {within:g} s", backend=trouble.NAME) from None
        finally:
            self.forget([receipt])
        error = answers.results[0] or (self.error if answers.open else None)
        if error is not None:
            raise error

    # ------------------------------------------------------------ life

    async def open(self, host: str, port: int) -> None:
        """Connect the socket and say who we are: one attempt."""
        options = self._options
        context = None
        if options.is_tls:
            context = await asyncio.to_thread(tls_context, options, backend=trouble.NAME)
        name = host if context is not None and context.check_hostname else None
        await self._loop.create_connection(
            lambda: self, host, port, ssl=context, server_hostname=name or ("" if context else None)
        )
        beat = int(options.heartbeat * 1000)
        told = {"accept-version": "1.2", "host": host, "heart-beat": f"{beat},{beat}"}
        if options.user is not None:
            told["login"] = options.user
        password = options.password
        if options.password_file is not None:
            password = await asyncio.to_thread(
                read_secret, options.password_file, "password_file", backend=trouble.NAME
            )
        if password is not None:
            told["passcode"] = password
        if any("\n" in value or "\r" in value for value in told.values()):
            raise OptionError("user and password cannot hold the end of a line", backend=trouble.NAME)
        self.write_now(stomp.encode("CONNECT", told))
        frame = await self._connected
        if frame.headers.get("version") != "1.2":
            raise OptionError(
                f"the broker speaks STOMP {frame.headers.get('version', '1.0')}, 1.2 is needed: use a newer one",
                backend=trouble.NAME,
            )
        self.session = frame.headers.get("session", "")
        send, receive = stomp.beats((beat, beat), frame.headers.get("heart-beat", "0,0"))
        if send:
            self._every(send / 2000, self._beat)
        if receive:
            self._every(receive / 1000, self._listen)

    def _every(self, seconds: float, what: Callable[[float, float], None]) -> None:
        place = len(self._timers)
        self._timers.append(None)  # type: ignore[arg-type]  # filled by the next line, and by each turn

        def turn(due: float) -> None:
            if self.error is None:
                what(seconds, due)
            if self.error is None:
                begin()

        def begin() -> None:
            due = self._loop.time() + seconds
            self._timers[place] = self._loop.call_at(due, turn, due)

        begin()

    def _beat(self, seconds: float, due: float) -> None:
        if self._loop.time() - self._spoke >= seconds:
            self.write_now(stomp.BEAT)

    def _listen(self, seconds: float, due: float) -> None:
        now = self._loop.time()
        if now - due > seconds:  # the loop was held up: what came meanwhile was not read yet
            self._heard = max(self._heard, now - seconds)
        if now - self._heard > GRACE * seconds:
            silence = now - self._heard
            self._end(ConnectionLostError(f"the broker was silent for {silence:.0f} s", backend=trouble.NAME))

    async def aclose(self, *, abort: bool = False) -> None:
        """End the connection; without `abort` the broker is told, and what was written is done by then."""
        self._lost = None
        if not abort and self.error is None and self._connected.done():
            try:
                await self.ask("DISCONNECT", {}, within=LEAVING)
            except Error as error:
                log.debug("leaving without an answer: %s", error)
            finally:  # also when this is cancelled
                self._end(_closed())
        self._end(_closed())
        if self._transport is not None:
            await self._ended


def _closed() -> Error:
    return ConnectionLostError("the connection is closed", backend=trouble.NAME)


class Endpoints:
    """The hosts of a URL; each attempt to connect takes the next one, and stays with the one that answered.

    It knows every connection that it made, so that the backend can let go of those that nobody closed.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._turn = 0
        self._made: list[Connection] = []
        self._closed = False

    async def connect(
        self,
        deliver: Callable[[stomp.Frame], None] | None = None,
        lost: Callable[[Error], None] | None = None,
    ) -> Connection:
        """Return a connection that is open: one attempt.

        Raises:
            ConnectError, PermissionDeniedError, OptionError, TimedOutError: it could not be opened.
        """
        places = self._options.endpoints
        host, port = places[self._turn % len(places)]
        try:
            async with asyncio.timeout(self._options.open_timeout):
                connection = await self._opened(host, port, deliver)
        except BaseException as error:
            self._turn += 1
            if isinstance(error, TimeoutError):
                raise ConnectError(f"{host}:{port} gives no answer", backend=trouble.NAME) from error
            ours = trouble.unreachable(error)
            if ours is None:
                raise
            raise ours from error
        connection._lost = lost  # noqa: SLF001 - it is this module's own: nobody hears of an attempt that failed
        self._made = [*(known for known in self._made if known.error is None), connection]
        if self._closed:  # while it was made
            await self.aclose()
            raise ClosedError("the backend is closed", backend=trouble.NAME)
        return connection

    async def _opened(
        self, host: str, port: int, deliver: Callable[[stomp.Frame], None] | None, *, again: bool = True
    ) -> Connection:
        """Return one that is open; a broker that hangs up without a word is asked once more.

        It does so to a wrong password at times, before its ERROR is written: 2 of 1,200 (5.19.1, 2026-11-26).
        """
        connection = Connection(self._options, deliver)
        try:
            await connection.open(host, port)
        except BaseException as error:
            await connection.aclose(abort=True)
            if not (again and isinstance(error, ConnectionLostError)):
                raise
            return await self._opened(host, port, deliver, again=False)
        return connection

    async def aclose(self) -> None:
        """Let go of every connection that is still open; no other will be made."""
        self._closed = True
        made, self._made = self._made, []
        for connection in made:
            await connection.aclose(abort=True)
