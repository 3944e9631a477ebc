"""A proxy in front of an emulator of AWS that does to calls what the emulator never does, by rules and by chance.

    async with FaultProxy("http://127.0.0.1:4566", [Rule("partial", op="SendMessageBatch", rate=0.05)]) as proxy:
        unimsg.connect(f"sqs://us-east-1?endpoint_url={proxy.url}")

Law: for tests; on loopback only. Speaks the JSON of SQS, and passes everything else on as it is. What it did is in
`log`: which call, which fault, and whether the emulator ran it. Chance is seeded.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Literal, NamedTuple, Self
from urllib.parse import parse_qs

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

Kind = Literal["error", "after", "drop", "hang", "delay", "partial", "twice", "garbage"]
LINGER = struct.pack("ii", 1, 0)
"""Closing with this sends a reset."""
HOP = frozenset(
    {"accept-encoding", "connection", "content-length", "date", "host", "server", "transfer-encoding"}
)
AGE = 300.0
"""Seconds that a signature is good."""


@dataclass(eq=False)
class Rule:
    """What happens to some calls.

    Attributes:
        kind: `error`: refused before it runs. `after`: it runs and the answer is an error. `drop`: the connection
            ends. `hang`: no answer. `delay`: a late one. `partial`: some entries of a batch fail. `twice`: it runs
            twice. `garbage`: a page instead of an answer.
        op: the operation; `*`: any.
        p: how likely it is, from 0 to 1.
        times: how often at most; None: for ever.
        when: of `drop` and `hang`: before the call runs, after it, or (`drop`) in mid answer.
        reset: of `drop`: with a reset.
        code, status: of `error`, `after` and `partial`.
        seconds: of `delay` and `hang`.
        rate: of `partial`: the share of the entries.
        ghost: of `partial`: the entry was executed and is reported as failed.
    """

    kind: Kind
    op: str = "*"
    p: float = 1.0
    times: int | None = None
    when: Literal["before", "after", "mid"] = "before"
    reset: bool = False
    code: str = "RequestThrottled"
    status: int = 400
    seconds: float = 3600.0
    rate: float = 0.3
    ghost: bool = False


class Noted(NamedTuple):
    """One call that met a fault."""

    op: str
    kind: str
    ran: bool


@dataclass
class Passed:
    """What was counted of all calls."""

    calls: dict[str, int] = field(default_factory=dict)

    def add(self, op: str) -> None:
        """Count one."""
        self.calls[op] = self.calls.get(op, 0) + 1


class FaultProxy:
    """See above.

    Args:
        upstream: the URL of the emulator.
        rules: tried in order for each call; the first that fits is applied.
        seed: of chance.
        keys: access key -> secret: signatures are verified with botocore's own signer; None: they are not.
    """

    def __init__(
        self,
        upstream: str,
        rules: Sequence[Rule] = (),
        *,
        seed: int = 1,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.rules = list(rules)
        self.log: list[Noted] = []
        self.passed = Passed()
        self.under_way = Counter[str]()
        """Calls that came and have no answer yet, also of clients that have gone away since."""
        self.expired: set[str] = set()
        """Access keys that are refused as expired."""
        self.url = ""
        self._upstream = upstream.rstrip("/")
        self._chance = Random(seed)
        self._keys = keys
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._http = ClientSession(
            connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None), auto_decompress=False
        )
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        await self._runner.cleanup()
        await self._http.close()

    # ------------------------------------------------------------ one call

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        op = operation(request, body)
        self.passed.add(op)
        self.under_way[op] += 1
        try:
            return await self._answer(op, request, body)
        finally:
            self.under_way[op] -= 1

    async def _answer(self, op: str, request: web.Request, body: bytes) -> web.StreamResponse:
        refused = self._refused(request, body)
        if refused is not None:
            self.log.append(Noted(op, "refused", ran=False))
            return refused
        rule = self._rule(op)
        if rule is None:
            return _response(await self._send(request, body))
        return await self._apply(rule, op, request, body)

    def _rule(self, op: str) -> Rule | None:
        for rule in self.rules:
            if rule.op not in (op, "*") or rule.times == 0 or self._chance.random() >= rule.p:
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule
        return None

    async def _apply(  # noqa: PLR0911 - one for each kind of fault
        self, rule: Rule, op: str, request: web.Request, body: bytes
    ) -> web.StreamResponse:
        early = rule.kind in ("error", "garbage") or (rule.kind in ("drop", "hang") and rule.when == "before")
        if early:
            self.log.append(Noted(op, rule.kind, ran=False))
            if rule.kind == "error":
                return _error(request, rule.status, rule.code)
            if rule.kind == "garbage":
                return web.Response(status=503, content_type="text/html", text="<html>503</html>")
            return await self._silence(rule, request)
        if rule.kind == "partial":
            return await self._partial(rule, op, request, body)
        if rule.kind == "twice":
            await self._send(request, body)
        answer = await self._send(request, body)
        self.log.append(Noted(op, rule.kind, ran=True))
        if rule.kind == "after":
            return _error(request, 500, "InternalFailure")
        if rule.kind in ("drop", "hang"):
            if rule.when == "mid":
                await _half(request, answer)
            return await self._silence(rule, request)
        if rule.kind == "delay":
            await self._pause(rule.seconds)
        return _response(answer)

    async def _silence(self, rule: Rule, request: web.Request) -> web.StreamResponse:
        if rule.kind == "hang":
            await self._pause(rule.seconds)
        transport = request.transport
        if transport is not None:
            if rule.reset:
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            transport.abort()
        return web.Response()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    async def _send(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        async with self._http.request(
            request.method, self._upstream + request.raw_path, data=body, headers=headers
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
            return answer.status, kept, await answer.read()

    # ------------------------------------------------------------ entries

    async def _partial(self, rule: Rule, op: str, request: web.Request, body: bytes) -> web.StreamResponse:
        asked = json.loads(body)
        entries = asked["Entries"]
        bad = {entry["Id"] for entry in entries if self._chance.random() < rule.rate}
        good = entries if rule.ghost else [entry for entry in entries if entry["Id"] not in bad]
        answer: tuple[int, dict[str, str], bytes] = (
            200,
            {"Content-Type": "application/x-amz-json-1.0"},
            b"{}",
        )
        if good:
            answer = await self._send(request, json.dumps({**asked, "Entries": good}).encode())
        if bad:
            self.log.append(Noted(op, "ghost" if rule.ghost else "partial", ran=rule.ghost))
        status, headers, raw = answer
        if status != 200:
            return _response(answer)
        told = json.loads(raw)
        told["Successful"] = [done for done in told.get("Successful", ()) if done["Id"] not in bad]
        told["Failed"] = [
            *(failed for failed in told.get("Failed", ()) if failed["Id"] not in bad),
            *({"Id": id_, "SenderFault": False, "Code": rule.code, "Message": "injected"} for id_ in bad),
        ]
        return _response((status, headers, json.dumps(told).encode()))

    # ------------------------------------------------------------ who asks

    def _refused(self, request: web.Request, body: bytes) -> web.Response | None:
        """Return the answer to a call that is not signed as it must be; None: it is."""
        if self._keys is None and not self.expired:
            return None
        try:
            found = _signature(request)
        except (KeyError, ValueError, IndexError):
            return _error(request, 403, "MissingAuthenticationTokenException")
        if found.key in self.expired:
            return _error(request, 400, "ExpiredTokenException")
        if self._keys is None:
            return None
        if found.key not in self._keys:
            return _error(request, 403, "UnrecognizedClientException")
        right = _verify(request, body, found, self._keys[found.key])
        return None if right else _error(request, 403, "InvalidSignatureException")


class _Signature(NamedTuple):
    key: str
    region: str
    service: str
    names: Sequence[str]
    value: str


def _signature(request: web.Request) -> _Signature:
    parts = request.headers["Authorization"].split(" ", 1)[1].split(",")
    told = dict(part.strip().split("=", 1) for part in parts)
    key, _day, region, service, _ = told["Credential"].split("/")
    return _Signature(key, region, service, told["SignedHeaders"].split(";"), told["Signature"])


def _verify(request: web.Request, body: bytes, found: _Signature, secret: str) -> bool:
    headers = request.headers
    needed = {"host", "x-amz-date"} | ({"x-amz-security-token"} & {name.lower() for name in headers})
    sent = datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if not needed <= set(found.names) or abs((datetime.now(UTC) - sent).total_seconds()) > AGE:
        return False
    signed = AWSRequest(
        request.method,
        f"http://{headers['Host']}{request.raw_path}",
        data=body,
        headers={name: headers[name] for name in found.names},
    )
    signer = SigV4Auth(Credentials(found.key, secret), found.service, found.region)
    signed.context["timestamp"] = headers["X-Amz-Date"]
    canonical = signer.canonical_request(signed)
    return bool(signer.signature(signer.string_to_sign(signed, canonical), signed) == found.value)


def operation(request: web.Request, body: bytes) -> str:
    """Return what a call asks for."""
    target = request.headers.get("X-Amz-Target", "")
    if target:
        return target.rpartition(".")[2]
    if "x-www-form-urlencoded" in request.headers.get("Content-Type", ""):
        return parse_qs(body.decode()).get("Action", [""])[0]
    return f"{request.method} {request.path}"


def _error(request: web.Request, status: int, code: str) -> web.Response:
    if "X-Amz-Target" not in request.headers:
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>injected</Message></Error>"
            "</ErrorResponse>"
        )
        return web.Response(status=status, content_type="text/xml", text=text)
    return web.Response(
        status=status,
        headers={"Content-Type": "application/x-amz-json-1.0", "x-amzn-query-error": f"{code};Sender"},
        body=json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "injected"}).encode(),
    )


def _response(answer: tuple[int, Mapping[str, str], bytes]) -> web.Response:
    status, headers, raw = answer
    return web.Response(status=status, headers=headers, body=raw)


async def _half(request: web.Request, answer: tuple[int, Mapping[str, str], bytes]) -> None:
    status, headers, raw = answer
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(raw))})
    await response.prepare(request)
    await response.write(raw[: len(raw) // 2])


def kinds(log: Sequence[Noted]) -> Mapping[str, int]:
    """Return how often each kind of fault was met."""
    found: dict[str, int] = {}
    for noted in log:
        found[noted.kind] = found.get(noted.kind, 0) + 1
    return found
