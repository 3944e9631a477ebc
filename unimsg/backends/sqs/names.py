"""Names: what a destination is called at SQS.

Law: pure. The scheme says whether a queue is a FIFO queue, so `.fifo` is never part of a destination.
"""

from __future__ import annotations

import re
from typing import Any

from unimsg.backends.sqs.options import FIFO
from unimsg.errors import OptionError
from unimsg.options import check_name

LONGEST = 80
"""Characters of a queue's name, `.fifo` included
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html, 2026-11)."""
_LEGAL = re.compile(r"[A-Za-z0-9_-]+")


def native_name(name: str, options: Any) -> str:  # noqa: ANN401 - the options of SQS or SNS
    """Return the name of a queue or a topic at the service.

    Raises:
        OptionError: the service has no such names.
    """
    check_name("destination", name, names=options.names, backend=options.scheme)
    return queue_name(name, options)


def queue_name(name: str, options: Any, *, longest: int = LONGEST) -> str:  # noqa: ANN401 - as above
    """Return the name at the service; portable or not."""
    bare = name.removesuffix(FIFO) if options.fifo else name
    full = f"{options.prefix}{bare}{FIFO if options.fifo else ''}"
    if not _LEGAL.fullmatch(options.prefix + bare) or len(full) > longest:
        raise OptionError(
            f"{full!r} is no name at {options.scheme}: use up to {longest} of A-Z a-z 0-9 _ -"
            + (
                ""
                if options.fifo or not name.endswith(FIFO)
                else f"; a name in {FIFO} is for {options.scheme}+fifo://"
            ),
            backend=options.scheme,
        )
    return full
