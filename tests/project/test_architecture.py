"""The boundaries: what an import loads, which modules may import which, what is never used, what the wheel holds."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.project.source import ADAPTERS, CORE, FILES, SRC, imports, imports_for_type_checkers, name_of, nodes

import sessioncore

FRAMEWORKS = ("aiohttp", "litestar", "starlette", "fastapi", "quart", "django", "flask", "sanic")
ROOMS_FOR_ADAPTERS = ("sessioncore.cli.", "sessioncore.forms.", "sessioncore.integration.")
DRIVERS = {"redis": "redis", "hiredis": "redis", "asyncpg": "postgres", "key_value": "keyvalue"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": "src:src/adapters"}  # not an installed copy


def python(script: str, **environment: str) -> str:
    """What a new interpreter prints."""
    command, environment = [sys.executable, "-c", script], ENVIRONMENT | environment
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def roots(names: set[str] | frozenset[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


# -- what an import loads


def test_importing_the_core_is_quick_and_loads_no_driver_and_no_framework() -> None:
    script = (
        "import sys, time, anyio, msgspec, sqlite3; begin = time.process_time(); import sessioncore;"
        "print(time.process_time() - begin, *sys.modules)"
    )
    for attempt in range(5):  # one quick run is enough: the machine may be busy
        # The first run compiles what is imported; the empty text lets it write bytecode whatever the environment says.
        seconds, *loaded = python(script, PYTHONDONTWRITEBYTECODE="").split()
        assert roots({*loaded}).isdisjoint({*FRAMEWORKS, *DRIVERS, "pydantic", "attr", "attrs", "trio", "pytest"})
        assert "sessioncore.testing" not in loaded
        if float(seconds) < 0.25:
            break
        assert attempt < 4


def test_importing_the_asgi_adapter_or_the_telemetry_loads_no_driver_and_no_framework() -> None:
    loaded = python("import sessioncore_asgi, sessioncore.telemetry, sys; print(*sys.modules)").split()
    assert roots({*loaded}).isdisjoint({*FRAMEWORKS, *DRIVERS, "opentelemetry"})


# -- which modules may import which


def test_the_core_names_no_framework_and_a_driver_only_in_the_storage_that_needs_it() -> None:
    for path in CORE:
        assert not re.search("|".join(FRAMEWORKS[:4]), path.read_text(encoding="utf-8"), re.IGNORECASE), path
        for driver in DRIVERS.keys() & roots(imports(path)):
            assert path.is_relative_to(SRC / "sessioncore" / "storage" / DRIVERS[driver])


def test_imports_have_no_circle_except_one_for_type_checkers() -> None:
    """A session knows its store, and the store makes sessions: `Session.store` is a SessionStore."""
    files = {name_of(path): path for path in FILES}
    arrows = {
        name: {other if other in files else other.rpartition(".")[0] for other in imports(path)} & {*files}
        for name, path in files.items()
    }
    finished: set[str] = set()
    for name, path in files.items():
        named = {other for other in imports_for_type_checkers(path) if other.startswith("sessioncore")}
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
    if not linter.exists():
        pytest.skip("import-linter is not installed: it is part of the extra `dev`")
    run = subprocess.run([linter, "--no-cache"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_adapters_use_public_names_of_the_core_only() -> None:
    allowed = {f"sessioncore.{name}" for name in sessioncore.__all__} | {"sessioncore"}
    for path in ADAPTERS:
        used = {name for name in imports(path) if name.partition(".")[0] == "sessioncore"}
        assert {name for name in used if not name.startswith(ROOMS_FOR_ADAPTERS)} <= allowed, path


# -- what is never used


@pytest.mark.proves("AT-76")
def test_nothing_turns_bytes_or_text_into_code() -> None:
    never = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "importlib", "runpy", "code"}
    for path in FILES:
        assert roots(imports(path)).isdisjoint(never), path
        assert "typing_extensions" not in roots(imports(path) - imports_for_type_checkers(path)), path  # no dependency
        # for SkipTest, which test runners understand
        assert "unittest" not in roots(imports(path)) or path.parent.name == "testing"
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        called = {function.id for function in calls if isinstance(function, ast.Name)}
        assert called.isdisjoint({"eval", "exec", "compile", "__import__"}), path


# -- what the wheel holds


def test_the_wheel_holds_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    if find_spec("build") is None:
        pytest.skip("build is not installed: it is part of the extra `dev`")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path)]
    run = subprocess.run(build, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"sessioncore-{sessioncore.__version__}-")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {"sessioncore", "sessioncore_asgi", "sessioncore_aiohttp", "sessioncore_litestar"}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    modules = {str(path.relative_to(SRC / "adapters" if path in ADAPTERS else SRC)) for path in FILES}
    assert {name for name in names if name.endswith(".py")} == modules
