"""The command `litestar sessions`, as a person types it."""

import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import click
import pytest
from click.testing import CliRunner, Result
from litestar import Litestar

from sessioncore import SessionConfig, SessionStore, SQLiteStorage, from_cookie
from sessioncore_litestar import SessionPlugin

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


def _store(path: Path) -> SessionStore:
    return SessionStore(SessionConfig(storage=SQLiteStorage(path)))


def _with(path: Path, work: Callable[[SessionStore], Awaitable[T]]) -> T:
    """Do something with the sessions in a loop of its own, as the server would."""

    async def main() -> T:
        async with _store(path) as store:
            return await work(store)

    return anyio.run(main)


def _type(path: Path, *words: str, answer: str | None = None) -> Result:
    root = click.Group()
    SessionPlugin(_store(path)).on_cli_init(root)
    return CliRunner().invoke(root, ["sessions", *words], input=answer)


async def _two(store: SessionStore) -> str:
    await store.create(owner="ada", device="phone \x1b[31m[red]")
    return (await store.create(owner="ada", device="laptop")).handle


def test_the_commands_work_on_the_applications_own_store(path: Path) -> None:
    handle = _with(path, _two)
    assert _type(path, "count").stdout == "2\n"
    assert _type(path, "list", "--owner", "ada", "--json").stdout.count('"handle"') == 2
    assert _type(path, "list", "--owner", "eve").exit_code == 1
    assert _type(path, "revoke", handle).stdout == "1\n"
    assert _type(path, "revoke", "--all", answer="n\n").exit_code == 1
    assert _type(path, "revoke", "--all", answer="y\n").exit_code == 0
    assert _type(path, "count", "--json").stdout == '{"count": 0}\n'
    assert _type(path, "audit").exit_code == 1
    assert "--storage" not in _type(path, "count", "--help").output


@pytest.mark.parametrize(("words", "code"), [(["count"], 3), (["count", "--storage", "memory://"], 2)])
def test_what_cannot_work_is_told_in_a_sentence(tmp_path: Path, words: list[str], code: int) -> None:
    result = _type(tmp_path, *words)  # a folder is no database
    assert result.exit_code == code
    assert "Error: " in result.output
    assert isinstance(result.exception, SystemExit)


def test_sessions_in_the_servers_memory_cannot_be_seen_from_here() -> None:
    root = click.Group()
    SessionPlugin(SessionStore()).on_cli_init(root)
    result = CliRunner().invoke(root, ["sessions", "count"])
    assert result.exit_code == 2
    assert "memory" in result.output


def test_each_store_has_a_command_of_its_own() -> None:
    root = click.Group()
    store = SessionStore()
    admin = SessionStore(SessionConfig(extractor=from_cookie("__Host-admin")))
    app = Litestar([], plugins=[SessionPlugin(store), SessionPlugin(admin, scope_key="admin_session")])
    for plugin in app.plugins.cli:
        plugin.on_cli_init(root)
    assert set(root.commands) == {"sessions", "admin-sessions"}


def test_litestars_own_command_finds_it(tmp_path: Path, path: Path) -> None:
    handle = _with(path, _two)
    (tmp_path / "shop.py").write_text(
        "from litestar import Litestar\n"
        "from sessioncore import SessionConfig, SessionStore, SQLiteStorage, from_cookie\n"
        "from sessioncore_litestar import SessionPlugin\n"
        f"app = Litestar(plugins=[SessionPlugin(SessionStore(SessionConfig(storage=SQLiteStorage({str(path)!r}))))])\n"
    )
    places = [str(tmp_path), str(ROOT / "src"), str(ROOT / "src" / "adapters")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "NO_COLOR": "1"}
    env.pop("COLUMNS", None)

    command = [sys.executable, "-m", "litestar", "--app", "shop:app", "sessions", "list", "--owner", "ada"]
    listed = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^{handle}\t20[0-9T:-]+Z\t.*laptop", listed, re.MULTILINE)
    assert len(listed.splitlines()) == 2
