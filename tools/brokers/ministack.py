"""MiniStack: SQS, SNS and more of AWS in one process, from its wheel in an environment of its own.

Law: listens on 127.0.0.1 only and keeps nothing; any credentials are good, and no signature is looked at. For tests
its polls last a fifth of the time that is asked for: see `ministack_in_short`.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tools.brokers.process import Running, await_answer, free_ports, spawn

VERSION = "1.5.33"
IN_SHORT = Path(__file__).with_name("ministack_in_short.py")


def install(cache: Path) -> Path:
    """Return the Python of its environment, made once."""
    home = cache / f"ministack-{VERSION}"
    if not (home / "bin" / "ministack").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([home / "bin" / "pip", "-q", "install", f"ministack=={VERSION}"], check=True)
    return home / "bin" / "python"


def start(folder: Path, cache: Path, program: Path = IN_SHORT) -> Running:
    """Start it, by a program that changes it a little; returns when it answers."""
    port, mqtt = free_ports(2)
    url = f"http://127.0.0.1:{port}"
    log = folder / "ministack.log"
    settings = {
        "GATEWAY_PORT": port,
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_PORT": mqtt,
        "SFTP_ENABLED": 0,
        "LOG_LEVEL": "WARNING",
    }
    given = [f"{name}={value}" for name, value in settings.items()]
    command = ["env", *given, str(install(cache)), "-P", str(program)]
    process = spawn("ministack", command, folder=folder, log=log)
    await_answer(lambda: answers(f"{url}/_ministack/health"), process, log)
    return Running(environment={"UNIMSG_TEST_MINISTACK_URL": url}, processes=(process,))


def answers(url: str) -> bool:
    """Whether a server answers; what it says does not matter."""
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - the URL is our own
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
