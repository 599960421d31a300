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


def _type(path: Path, *words: str, answer: str | None = None, columns: int = 200) -> Result:
    root = click.Group()
    SessionPlugin(_store(path)).on_cli_init(root)
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(root, ["sessions", *words], input=answer)


async def _two(store: SessionStore) -> str:
    await store.create(owner="ada", device="phone \x1b[31m[red]")
    return (await store.create(owner="ada", device="laptop")).handle


def test_sessions_are_counted_listed_and_revoked(path: Path) -> None:
    handle = _with(path, _two)
    assert _type(path, "count", "ada").output.strip() == "2"
    assert _type(path, "count", "eve").output.strip() == "0"
    listed = _type(path, "list", "ada").output
    assert handle in listed
    narrow = _type(path, "list", "ada", columns=80).output
    assert f"\n{handle}\n  20" in narrow
    assert narrow.index("UTC  device='laptop'") < narrow.index("phone")
    assert "\x1b" not in listed
    assert "[red]" in listed
    assert listed.index("laptop") < listed.index("phone")
    assert _type(path, "revoke", handle, "--owner", "eve").exit_code == 1
    assert _type(path, "revoke", handle, "--owner", "ada").output == "The session was ended.\n"
    assert _type(path, "revoke", handle).exit_code == 1
    assert _type(path, "count", "ada").output.strip() == "1"


def test_expired_records_are_purged(path: Path) -> None:
    now = 1_000.0

    async def past(store: SessionStore) -> None:
        storage = SQLiteStorage(path, clock=lambda: now)
        async with SessionStore(SessionConfig(storage=storage, clock=lambda: now)) as old:
            for _ in range(3):
                await old.create()
        await store.create()

    _with(path, past)
    result = _type(path, "purge")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "Expired records removed: 3")


def test_everything_is_ended_after_a_question(path: Path) -> None:
    _with(path, _two)
    assert _type(path, "clear", answer="n\n").exit_code == 1
    assert _type(path, "count", "ada").output.strip() == "2"
    assert _type(path, "clear", answer="y\n").output.endswith("Sessions ended: 2\n")
    assert _type(path, "count", "ada").output.strip() == "0"


def test_sessions_in_the_servers_memory_cannot_be_seen_from_here() -> None:
    root = click.Group()
    SessionPlugin(SessionStore()).on_cli_init(root)
    result = CliRunner().invoke(root, ["sessions", "count", "ada"])
    assert result.exit_code == 1
    assert "memory" in result.output


def test_a_storage_that_does_not_answer_is_told_in_a_sentence(tmp_path: Path) -> None:
    result = _type(tmp_path, "count", "ada")  # a folder is no database
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.exception is None or isinstance(result.exception, SystemExit)


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

    command = [sys.executable, "-m", "litestar", "--app", "shop:app", "sessions", "list", "ada"]
    listed = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^{handle}  20[0-9-]+ [0-9:]+ UTC  .*laptop", listed, re.MULTILINE)
    assert len(listed.splitlines()) == 3
