"""`unimsg run`: a router of a module, with probes, until a signal.

Law: loads, runs, answers `GET /live` and `GET /ready` from `client.health()`; what stopping means is the router's.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from contextlib import suppress

from unimsg.cli.terminal import say
from unimsg.client import Client, connect
from unimsg.errors import ConfigError
from unimsg.router import Router

REQUEST = 8192
"""Bytes of a request that are read at most."""
HEAD = b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
PATIENCE = 5.0
"""Seconds that a probe may take to ask."""


def load(spec: str) -> Router:
    """Return the router that `module:name` means; the current folder is looked in first.

    Raises:
        ConfigError: there is no such module or name, or it is no router.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{spec!r} names no router: give module:name, as in app:router")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the module imports: its traceback is what helps
        raise ConfigError(f"there is no module {module_name!r} here or among what is installed") from None
    router = getattr(module, name, None)
    if router is None:
        raise ConfigError(f"module {module_name!r} has no {name!r}")
    if not isinstance(router, Router):
        raise ConfigError(f"{spec} is no unimsg.Router, it is of type {type(router).__name__}")
    return router


async def serve(router: Router, url: str, *, port: int | None, host: str) -> None:
    """Run until a signal; what was accepted is finished, the rest goes back."""
    async with connect(url) as client:
        if port is None:
            await router.run(client)
            return
        try:
            server = await asyncio.start_server(lambda r, w: answer(client, r, w), host, port)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        async with server:
            say(f"health on http://{host}:{server.sockets[0].getsockname()[1]}/live and /ready")
            await router.run(client)


async def answer(client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one probe: 200, or 503 with the reasons; it never disturbs the consuming."""
    try:
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n")
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # headers say nothing that matters here
        method, path, *_ = (*head.split(b" "), b"", b"")
        status, body = response(client, method, path)
        writer.write(HEAD % (status, len(body)) + (b"" if method == b"HEAD" else body))
        await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # it went away, or it is no HTTP: nobody waits for an answer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def response(client: Client, method: bytes, path: bytes) -> tuple[bytes, bytes]:
    """Return status and body."""
    if method not in (b"GET", b"HEAD"):
        return b"405 Method Not Allowed", b"GET /live or /ready\n"
    health = client.health()
    good = {b"/live": health.live, b"/ready": health.ready}.get(path.partition(b"?")[0])
    if good is None:
        return b"404 Not Found", b"GET /live or /ready\n"
    reasons = "".join(f"{reason}\n" for reason in health.reasons).encode()
    return (b"200 OK", reasons or b"ok\n") if good else (b"503 Service Unavailable", reasons or b"not yet\n")
