"""The client: one account on one service, and how to get one.

Law: re-exports; `client` wires a backend to the way out and the way in, `publishers` keeps what it opened.
"""

import logging

from unimsg.client.client import Client
from unimsg.client.connecting import connect, options_schema
from unimsg.client.health import Health

logging.getLogger("unimsg").addHandler(
    logging.NullHandler()
)  # a library's log goes where the program sends it

__all__ = ["Client", "Health", "connect", "options_schema"]
