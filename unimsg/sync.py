"""Blocking publishers, for threads and scripts: `with unimsg.sync.connect(url) as client: client.publish(...)`.

Law: an event loop in a thread of its own, and calls that wait for it; every promise is that of `unimsg.Client`, which
does the work. Consuming is not offered: a handler is `async def`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from unimsg import client as asynchronous
from unimsg.capabilities import Capabilities, Needs
from unimsg.codecs import Codec
from unimsg.errors import ClosedError, ConfigError, Error, NotSentError, PublishManyError
from unimsg.message import Message, Receipt
from unimsg.options import Options, render
from unimsg.publishing.counters import PublisherStats
from unimsg.publishing.publisher import TIMEOUT
from unimsg.publishing.publisher import Publisher as AsyncPublisher
from unimsg.units import Duration

__all__ = ["Client", "Publisher", "connect"]

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 1000
"""Messages of one `publish_many` that are taken from its caller at a time."""


def connect(target: str | Options, *, needs: Needs | None = None) -> Client:
    """Return a blocking client for a URL or options, without any I/O; what cannot work is refused here.

    Args:
        target: `scheme://where?option=value`, or the `Options` of a backend.
        needs: what the program relies on.

    Raises:
        ConfigError: as `unimsg.connect`.
    """
    return Client(asynchronous.connect(target, needs=needs))


class Client:
    """One account on one service, for any number of threads: what they publish at the same time shares batches.

    Use it as `with connect(url) as client`: entering opens it, leaving flushes and closes. It starts a thread at first
    use and belongs to that process: connect after a fork, not before. An interrupt (Ctrl-C) ends the call that waits;
    what it had not handed over yet is withdrawn.
    """

    def __init__(self, client: asynchronous.Client) -> None:
        self._client = client
        self._name = client.options.scheme
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<sync.Client {render(self._client.options)}>"

    @property
    def capabilities(self) -> Capabilities:
        """What this client can do: as declared for its options, refined once it is open."""
        return self._client.capabilities

    # ------------------------------------------------------------ the way out

    def publish(  # noqa: PLR0913 - one argument for each field of a message
        self,
        destination: str,
        body: Any,  # noqa: ANN401 - whatever the codec takes
        *,
        codec: Codec[Any] | type[Any] | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the word of the field
        delay: Duration = 0.0,
        ttl: Duration | None = None,
        priority: int | None = None,
        content_type: str | None = None,
        timeout: Duration = TIMEOUT,
    ) -> Receipt:
        """Publish one message and return when the service has confirmed it.

        Arguments, returns and errors are those of `unimsg.Client.publish`.
        """
        return self._run(
            lambda: self._client.publish(
                destination,
                body,
                codec=codec,
                key=key,
                headers=headers,
                id=id,
                delay=delay,
                ttl=ttl,
                priority=priority,
                content_type=content_type,
                timeout=timeout,
            )
        )

    @overload
    def publisher(self, destination: str, *, needs: Needs | None = None) -> Publisher[Any]: ...
    @overload
    def publisher(
        self, destination: str, *, codec: Codec[T] | type[T], needs: Needs | None = None
    ) -> Publisher[T]: ...
    def publisher(
        self,
        destination: str,
        *,
        codec: Codec[Any] | type[Any] | None = None,
        needs: Needs | None = None,
    ) -> Publisher[Any]:
        """Return a publisher for one destination, without any I/O.

        Arguments and errors are those of `unimsg.Client.publisher`.
        """
        self._refuse_when_closed()
        made: AsyncPublisher[Any] = (
            self._client.publisher(destination, needs=needs)
            if codec is None
            else self._client.publisher(destination, codec=codec, needs=needs)
        )
        return Publisher(made, self._run, keeps_order=self.capabilities.ordering != "none")

    # ------------------------------------------------------------ open and close

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close publishers, close the connection, end the thread; calls that wait end, new ones are refused.

        In a forked child it does nothing: the connection is the parent's.
        """
        if self._forked():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            closing = asyncio.run_coroutine_threadsafe(self._client.aclose(), loop)
        try:
            self._wait(closing)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _forked(self) -> bool:
        return self._process not in (0, os.getpid())

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ClosedError("the client is closed: connect again", backend=self._name)

    def _run(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run on the loop, and wait for it here."""
        if (
            self._forked()
        ):  # asked before the lock, which another thread may have held while this process was made
            raise ConfigError(
                "this client belongs to the process that used it first: connect after the fork",
                backend=self._name,
            )
        if threading.current_thread() is self._thread:
            raise ConfigError(
                "a blocking call on its own event loop would wait for itself", backend=self._name
            )
        with self._lock:  # until it is handed over, so that `close` comes after it
            self._refuse_when_closed()
            future = asyncio.run_coroutine_threadsafe(work(), self._started())
        return self._wait(future)

    def _wait(self, future: Future[R]) -> R:
        try:
            return future.result()
        except CancelledError:
            raise ClosedError("the client was closed meanwhile", backend=self._name) from None
        except BaseException:
            future.cancel()  # interrupted: withdrawn if it was not handed over; one that has ended stays as it is
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop, self._process = asyncio.new_event_loop(), os.getpid()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name="unimsg.sync", daemon=True
            )
            self._thread.start()
        return self._loop


class Publisher(Generic[T]):
    """Publishes to one destination from any thread; made by `Client.publisher`, closed with its client."""

    def __init__(self, publisher: AsyncPublisher[T], run: Callable[..., Any], *, keeps_order: bool) -> None:
        self._publisher = publisher
        self._run = run
        self._keeps_order = keeps_order

    @property
    def destination(self) -> str:
        """Where to."""
        return self._publisher.destination

    @property
    def stats(self) -> PublisherStats:
        """What became of everything so far."""
        return self._publisher.stats

    def publish(  # noqa: PLR0913 - one argument for each field of a message
        self,
        body: T,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the word of the field
        delay: Duration = 0.0,
        ttl: Duration | None = None,
        priority: int | None = None,
        content_type: str | None = None,
        timeout: Duration = TIMEOUT,
    ) -> Receipt:
        """Publish one message; returns only when the service has confirmed it.

        Arguments, returns and errors are those of `unimsg.Publisher.publish`.
        """
        receipt: Receipt = self._run(
            lambda: self._publisher.publish(
                body,
                key=key,
                headers=headers,
                id=id,
                delay=delay,
                ttl=ttl,
                priority=priority,
                content_type=content_type,
                timeout=timeout,
            )
        )
        return receipt

    def publish_many(self, messages: Iterable[Message[T]], *, timeout: Duration = TIMEOUT) -> list[Receipt]:
        """Publish many messages; returns when each has been confirmed, raises when each has ended.

        `messages` may be a long generator: it runs in this thread, a thousand of them ahead at most. When a message
        with a key is not confirmed and may be published again, the rest of that key is not sent, where the service
        keeps order.

        Args:
            messages: in the order in which they are to be published.
            timeout: time for each of them.

        Returns:
            One receipt for each message, in order.

        Raises:
            PublishManyError: at least one was not confirmed; `results` has a receipt or an error for each, in order.
            ClosedError: the publisher was closed before anything was taken.
        """
        many, results = iter(messages), list[Any]()
        halted: set[str] = set()
        while chunk := list(islice(many, CHUNK)):
            results += self._chunk(chunk, halted, timeout)
        failed = [result for result in results if isinstance(result, Error)]
        if failed:
            raise PublishManyError(
                f"{len(failed)} of {len(results)} messages were not confirmed, see results; the first: {failed[0]}",
                results=results,
                backend=self._publisher.backend,
                destination=self.destination,
            )
        return results

    def _chunk(self, chunk: list[Message[T]], halted: set[str], timeout: Duration) -> list[Receipt | Error]:
        """Publish those whose key is not held back; `halted` gets the keys that are from now on."""
        held = [message.key in halted if isinstance(message, Message) else False for message in chunk]
        free = [message for message, wait in zip(chunk, held, strict=True) if not wait]
        try:
            ended: Iterable[Any] = self._run(lambda: self._publisher.publish_many(free, timeout=timeout))
        except PublishManyError as error:
            ended = error.results
        ends = iter(ended)
        results = [self._held_back() if wait else next(ends) for wait in held]
        if self._keeps_order:
            halted |= {
                message.key
                for message, result in zip(chunk, results, strict=True)
                if message.key is not None and isinstance(result, Error) and result.retryable
            }
        return results

    def _held_back(self) -> Error:
        return NotSentError(
            "an earlier message of the same key was not confirmed",
            backend=self._publisher.backend,
            destination=self.destination,
        )

    def flush(self) -> None:
        """Return when everything accepted so far has ended, sending what waits without lingering."""
        self._run(self._publisher.flush)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The life of the thread."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
