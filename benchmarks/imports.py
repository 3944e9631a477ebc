"""What `import unimsg` costs a process: time and memory above the bare interpreter, each in a process of its own.

`unimsg` is the facade, which loads a name when it is first asked for; `unimsg, in use` has asked for what nearly every
program asks for, and so has loaded asyncio, which stands beside it. Byte code is kept in a folder of this run, so that
neither is compiled while it is measured, whatever the environment says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from benchmarks.table import Bar, Figure, Measured

CONTENDERS = {
    "asyncio alone": "import asyncio",
    "unimsg": "import unimsg",
    "unimsg, in use": "import unimsg; unimsg.connect; unimsg.Router; unimsg.RetryPolicy",
    "FastStream": "import faststream",
}
TIME, MEMORY = "import, time", "import, memory"
ALLOWED = {"unimsg", "msgspec", "typing_extensions", *sys.stdlib_module_names}
"""The core, and what msgspec loads where it is installed."""
PROGRAM = """
import json, sys, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before, memory, start = set(sys.modules), resident(), time.perf_counter()
{statement}
seconds = time.perf_counter() - start
loaded = sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})
print(json.dumps([seconds * 1e3, (resident() - memory) / 2**20, loaded]))
"""


def measured(statement: str, byte_code: str) -> tuple[float, float, set[str]]:
    """Milliseconds, MiB above the interpreter, and what was loaded."""
    command = [sys.executable, "-c", PROGRAM.format(statement=statement)]
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": byte_code, "PYTHONDONTWRITEBYTECODE": ""}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    milliseconds, mebibytes, loaded = json.loads(run.stdout)
    return milliseconds, mebibytes, set(loaded)


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure all of it; the first round, which fills the caches of the system, does not count."""
    contenders = {
        name: statement
        for name, statement in CONTENDERS.items()
        if importlib.util.find_spec(statement.split()[1].rstrip(";")) is not None
    }
    times = {name: Figure(TIME, name, "ms") for name in contenders}
    memory = {name: Figure(MEMORY, name, "MiB") for name in contenders}
    with TemporaryDirectory() as byte_code:
        for turn in range(rounds + 1):
            for name, statement in contenders.items():
                milliseconds, mebibytes, loaded = measured(statement, byte_code)
                assert "faststream" in statement or loaded <= ALLOWED, f"{name} loads {loaded - ALLOWED}"
                if turn:
                    times[name].values.append(milliseconds)
                    memory[name].values.append(mebibytes)
    bars = [
        Bar(TIME, "", 60.0, "above"),
        Bar(TIME, "FastStream", 0.5, "times", "unimsg, in use"),
        Bar(MEMORY, "", 15.0, "above"),
        Bar(MEMORY, "", 15.0, "above", "unimsg, in use"),
    ]
    return [*times.values(), *memory.values()], bars
