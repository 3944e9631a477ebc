"""One consumer process: its effects are lines in a ledger, its completions are seen where they happen.

Law: settings come from the plan; the handler is what a service would have, and does not know that it is watched. It
says on its output when it is ready, and runs until it is killed, or told to stop (SIGTERM), which drains.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import unimsg
from tests.chaos import witness
from tests.chaos.ledger import Effect, Failing, Ledger
from tests.chaos.plan import Body, Plan, name_of
from unimsg import Delivery, RetryPolicy, Router
from unimsg.consuming.brakes import Brakes
from unimsg.policies.breaker import Breaker


class PoisonedError(Exception):
    """What every attempt at a poisoned message raises."""


async def main(plan: Plan, me: str) -> None:
    """Consume until told to stop."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    ledger = Ledger(plan.events)
    if not plan.brakes:
        Breaker.trip = lambda *_: None  # type: ignore[method-assign]  # no user can: the breaker never opens
        Brakes.may_retry = lambda self: True  # type: ignore[method-assign]  # nor is a retry put off for want of budget
    witness.watch_loops(ledger, me, plan.unanswered)
    router = Router()

    async def handle(delivery: Delivery[Body]) -> None:
        await asyncio.sleep(plan.work)
        take, at = witness.identity(delivery)
        if delivery.body.poison:
            ledger.write(Failing(me, delivery.id or "", take))
            raise PoisonedError(delivery.id)
        ledger.write(Effect(me, delivery.id or "", delivery.key or "", delivery.body.number, take, at))

    router.on(
        plan.destination,
        group=plan.group,
        codec=Body,
        concurrency=plan.concurrency,
        order="key" if plan.ordered else None,
        retry=RetryPolicy(max_attempts=plan.max_attempts, initial=0.05, max=0.5),
        dead_letter=plan.dead_letter,
    )(handle if plan.store is None else witness.watched(unimsg.store(plan.store), handle, ledger, me))
    async with unimsg.connect(plan.way(name_of(me))) as client, router.running(client):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await told.wait()
    ledger.close()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s %(message)s")
    logging.getLogger("unimsg.consuming").addFilter(lambda record: record.exc_info is None)  # the poisoned
    asyncio.run(main(Plan.load(sys.argv[1]), sys.argv[2]))
