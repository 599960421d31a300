"""The boundaries: what an import loads, which way the arrows point, what the wheel holds, and what is never used."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sessioncore

SRC = Path("src")
CORE = sorted((SRC / "sessioncore").rglob("*.py"))
ADAPTERS = sorted((SRC / "adapters").rglob("*.py"))
FRAMEWORKS = ("aiohttp", "litestar", "starlette", "fastapi", "quart", "django", "flask", "sanic")
ROOMS_FOR_ADAPTERS = ("sessioncore.forms.", "sessioncore.integration.")
DRIVERS = ("redis", "asyncpg", "key_value", "hiredis")


def name_of(path: Path) -> str:
    root = SRC / "adapters" if path in ADAPTERS else SRC
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file it does so; other names by their full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def type_checking_only(path: Path) -> set[str]:
    """The names that a file imports for type checkers alone."""
    blocks = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    lines = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
    return {f"{line.module}.{alias.name}" for line in lines for alias in line.names}


def python(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": "src:src/adapters"},
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout


# -- what an import loads


def test_importing_the_core_loads_no_driver_and_no_framework() -> None:
    loaded = python("import sessioncore, sys; print(*sys.modules)").split()
    roots = {name.partition(".")[0] for name in loaded}
    assert roots.isdisjoint({*FRAMEWORKS, *DRIVERS, "pydantic", "attr", "attrs", "trio", "pytest"})
    assert "sessioncore.testing" not in loaded


def test_importing_the_asgi_adapter_loads_no_framework() -> None:
    loaded = {name.partition(".")[0] for name in python("import sessioncore_asgi, sys; print(*sys.modules)").split()}
    assert loaded.isdisjoint({*FRAMEWORKS, *DRIVERS})


def test_importing_the_core_is_quick() -> None:
    script = (
        "import time, anyio, msgspec, sqlite3; begin = time.process_time(); import sessioncore;"
        "print(time.process_time() - begin)"
    )
    assert min(float(python(script)) for _ in range(5)) < 0.25


# -- which way the arrows point


def test_the_core_names_no_framework() -> None:
    for path in CORE:
        assert not re.search("|".join(FRAMEWORKS[:4]), path.read_text(encoding="utf-8"), re.IGNORECASE), path


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_imported_only_by_the_storage_that_needs_it(driver: str) -> None:
    users = {path.parent for path in CORE if any(name.partition(".")[0] == driver for name in imports(path))}
    room = {"redis": "redis", "hiredis": "redis", "asyncpg": "postgres", "key_value": "keyvalue"}[driver]
    assert users <= {SRC / "sessioncore" / "storage" / room}


def test_no_circle_of_imports_and_one_for_type_checkers() -> None:
    """A session knows its store, and the store makes sessions: `Session.store` is a SessionStore."""
    files = {name_of(path): path for path in [*CORE, *ADAPTERS]}
    arrows = {
        name: {other if other in files else other.rpartition(".")[0] for other in imports(path)} & {*files}
        for name, path in files.items()
    }
    finished: set[str] = set()
    for name, path in files.items():
        named = type_checking_only(path)
        if name in {"sessioncore.session._session", "sessioncore.session._base"}:
            assert named == {"sessioncore._store.SessionStore"}
            arrows[name].remove("sessioncore._store")
        else:
            assert named == set(), name

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        if name not in finished:
            for other in sorted(arrows[name]):
                visit(other, (*trail, name))
            finished.add(name)

    for name in files:
        visit(name, ())


def test_the_arrows_point_down_as_the_contracts_say() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    here = {**os.environ, "PYTHONPATH": "src:src/adapters"}  # not another copy that the environment has installed
    run = subprocess.run([linter, "--no-cache"], env=here, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_adapters_use_public_names_of_the_core_only() -> None:
    allowed = {f"sessioncore.{name}" for name in sessioncore.__all__} | {"sessioncore"}
    for path in ADAPTERS:
        used = {name for name in imports(path) if name.partition(".")[0] == "sessioncore"}
        assert {name for name in used if not name.startswith(ROOMS_FOR_ADAPTERS)} <= allowed, path


# -- what is never used


@pytest.mark.parametrize("path", [*CORE, *ADAPTERS], ids=name_of)
def test_nothing_turns_bytes_or_text_into_code(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports(path)}
    assert roots.isdisjoint({"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "importlib", "runpy", "code"})
    assert "typing_extensions" not in roots
    assert "unittest" not in roots or path.parent.name == "testing"  # its SkipTest is what test runners understand
    called = {
        node.func.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }  # fmt: skip
    assert called.isdisjoint({"eval", "exec", "compile", "__import__"})


@pytest.mark.parametrize("path", [*CORE, *ADAPTERS], ids=name_of)
def test_a_file_stays_small_enough_to_read(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


# -- what the wheel holds


def test_the_wheel_holds_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path)]
    run = subprocess.run(build, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"sessioncore-{sessioncore.__version__}-")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {"sessioncore", "sessioncore_asgi", "sessioncore_aiohttp", "sessioncore_litestar"}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    modules = {str(path.relative_to(SRC / "adapters" if path in ADAPTERS else SRC)) for path in [*CORE, *ADAPTERS]}
    assert {name for name in names if name.endswith(".py")} == modules
