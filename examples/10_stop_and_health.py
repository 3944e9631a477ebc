"""A worker with health probes that stops in order: what was accepted is finished, the rest goes back.

Law: liveness says whether to restart the process, readiness whether it works now; both speak of progress, not of a
ping. Kubernetes: `terminationGracePeriodSeconds` above `drain`.
"""

from __future__ import annotations

import asyncio
import os

import unimsg
from unimsg import Client, Delivery, Router

router = Router()


@router.on("orders", group="billing", concurrency=4, drain=10)
async def bill(delivery: Delivery[dict[str, int]]) -> None:
    """Work for a moment."""
    await asyncio.sleep(0.05)
    print(f"order {delivery.body['id']} billed")


async def answer(client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer `GET /live` and `GET /ready` with 200 or 503 and the reasons."""
    path = (await reader.readline()).split(b" ")[1]
    health = client.health()
    good = health.live if path == b"/live" else health.ready
    body = "\n".join(health.reasons).encode()
    status = b"200 OK" if good else b"503 Service Unavailable"
    writer.write(
        b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)
    )
    await writer.drain()
    writer.close()


async def main(url: str, port: int) -> None:
    """Run until SIGTERM or SIGINT; a second one does not wait for handlers."""
    async with unimsg.connect(url) as client:
        server = await asyncio.start_server(lambda r, w: answer(client, r, w), "127.0.0.1", port)
        async with server:
            print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
            await router.run(client)
    print("stopped in order")


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("UNIMSG_URL", "memory://"), int(os.environ.get("PORT", "0"))))
