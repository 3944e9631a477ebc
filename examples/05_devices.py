"""Telemetry of devices comes in, commands go out, in the order of each device.

Law: a command that is late is worse than none, so it expires; one handler publishes with the client that it reads with.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

import unimsg
from unimsg import Delivery, Needs

TOO_HOT = 30.0


class Reading(msgspec.Struct):
    """What a device says."""

    device: str
    celsius: float


class Command(msgspec.Struct):
    """What a device is told."""

    device: str
    fan: bool


router = unimsg.Router()


@router.on("telemetry", group="thermostat", codec=Reading, order="key")
async def regulate(delivery: Delivery[Reading]) -> None:
    """Switch the fan on above 30 degrees."""
    reading = delivery.body
    if reading.celsius > TOO_HOT:
        command = Command(reading.device, fan=True)
        await delivery.publish("commands", command, key=reading.device, ttl=60)


@router.on("commands", group="gateway", codec=Command, order="key")
async def tell(delivery: Delivery[Command]) -> None:
    """Hand a command to the device."""
    print(f"{delivery.body.device}: fan {'on' if delivery.body.fan else 'off'}")


async def main(url: str) -> None:
    """Three devices, one of them too hot."""
    async with unimsg.connect(url, needs=Needs(ordering="key", ttl=True)) as client:
        for device, celsius in (("attic", 41.5), ("cellar", 12.0), ("kitchen", 22.0)):
            await client.publish("telemetry", Reading(device, celsius), key=device)
        await router.run_until_idle(client)


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("UNIMSG_URL", "memory://")))
