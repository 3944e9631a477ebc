"""Who may import whom, and what `import unimsg` costs.

Law: the contracts stand in pyproject.toml; here they are run, and what import-linter cannot say is said.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "unimsg"

HEAVY = {
    "sqlite3",
    "multiprocessing",
    "unittest",
    "xml",
    "http",
    "smtplib",
    "email",
    "ctypes",
    "pdb",
    "pydoc",
}
"""Parts of the standard library that only a backend, a store or the command line may need."""


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter loads for a statement; no start-up hook runs (`-S`)."""
    program = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {paths!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(run.stdout))


@pytest.mark.parametrize(
    "statement", ["import unimsg", "import unimsg; [getattr(unimsg, name) for name in unimsg.__all__]"]
)
def test_import_loads_the_core_only(statement: str) -> None:
    """No client library, no extra, no backend: only msgspec and what the standard library brings along.

    The facade loads a name's module when it is asked for; asking for all of them changes nothing of this.
    """
    loaded = loaded_by(statement)
    roots = {module.partition(".")[0] for module in loaded}

    assert "unimsg" in roots
    # msgspec takes typing_extensions for reading annotations where somebody else has installed it
    allowed = {"unimsg", "msgspec", "typing_extensions", "__main__"}
    assert roots - set(sys.stdlib_module_names) - allowed == set()
    assert roots & HEAVY == set()
    assert {module for module in loaded if module.startswith(("unimsg.backends", "unimsg.testing"))} == set()


def test_contracts_hold() -> None:
    """The import contracts of pyproject.toml, each a sentence."""
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout


def imports(path: Path) -> set[str]:
    """The modules that a file names in its import statements, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            found.update(
                f"{source}.{alias.name}" if submodule(source, alias.name) else source for alias in node.names
            )
    return found


def submodule(package: str, name: str) -> bool:
    """Whether `from package import name` names a file of ours, not something that a file defines."""
    path = ROOT.joinpath(*package.split("."), name)
    return path.is_dir() or path.with_suffix(".py").exists()


def test_nobody_inside_imports_the_facade() -> None:
    """`unimsg/__init__.py` is for users; inside, the submodule that defines a name is imported."""
    offenders = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*.py")
        if PACKAGE / "testing" / "conformance" not in path.parents  # tests, written as a user's program is
        and any(module == "unimsg" or module.startswith(".") for module in imports(path))
    }

    assert offenders == set()


def test_client_libraries_are_imported_by_their_owner_only() -> None:
    """A library that is not msgspec stands where a backend does I/O, in a store, the command line, the kit."""
    foreign = {
        path.relative_to(PACKAGE).as_posix(): sorted(outside)
        for path in PACKAGE.rglob("*.py")
        if (outside := {module.partition(".")[0] for module in imports(path)} - OUR_OWN)
    }

    assert {path: names for path, names in foreign.items() if not may_import(path, names)} == {}


OUR_OWN = {*sys.stdlib_module_names, "unimsg", "msgspec"}

OWNERS: dict[str, set[str]] = {
    "cli": {"typer", "rich", "click"},
    "codecs": {"pydantic"},  # a BaseModel is decoded by the library it comes from, loaded when one is used
    "testing": {"pytest", "pytest_asyncio", "hypothesis", "_pytest"},
}


PURE = {"__init__", "options", "capabilities", "wire"}
"""Files of a backend that load no library: a program may ask what a backend can do before it is installed."""


def may_import(path: str, names: list[str]) -> bool:
    """Whether a file of the package may import these libraries."""
    parts = path.removesuffix(".py").split("/")
    if parts[0] == "backends":
        return parts[1] == "_aws" or parts[-1] not in PURE
    if parts[0] in {"stores", "integrations"}:
        return len(parts) > 1
    return set(names) <= OWNERS.get(parts[0], set())
