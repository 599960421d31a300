"""The command `litestar sessions`, as a person types it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import click
import pytest
from click.testing import CliRunner, Result
from litestar import Litestar

from sessioncore import MemoryStorage, SessionConfig, SessionStore, SQLiteStorage, Storage, from_cookie
from sessioncore_litestar import SessionPlugin

ROOT = Path(__file__).parents[2]


async def _two(path: Path) -> str:
    """Store two sessions, as the server would, and return the handle of one."""
    async with SessionStore(SessionConfig(storage=SQLiteStorage(path))) as store:
        await store.create(owner="ada", device="phone \x1b[31m[red]")
        return (await store.create(owner="ada", device="laptop")).handle


def _type(storage: Storage, *words: str, answer: str | None = None) -> Result:
    root = click.Group()
    SessionPlugin(SessionStore(SessionConfig(storage=storage))).on_cli_init(root)
    return CliRunner().invoke(root, ["sessions", *words], input=answer)


def test_the_commands_work_on_the_applications_own_store(tmp_path: Path) -> None:
    handle = anyio.run(_two, tmp_path / "sessions.sqlite3")
    storage = SQLiteStorage(tmp_path / "sessions.sqlite3")
    assert _type(storage, "count").stdout == "2\n"
    assert _type(storage, "revoke", handle).stdout == "1\n"
    assert _type(storage, "revoke", "--all", answer="n\n").exit_code == 1
    assert _type(storage, "revoke", "--all", answer="y\n").exit_code == 0
    assert _type(storage, "audit").exit_code == 1  # of the application's own store, which need not be named
    assert _type(storage, "count", "--json").stdout == '{"count": 0}\n'
    assert "--storage" not in _type(storage, "count", "--help").output


@pytest.mark.parametrize(
    ("words", "storage", "code", "text"),
    [
        (["count"], SQLiteStorage(ROOT), 3, "Error: "),  # a folder is no database
        (["count", "--storage", "memory://"], SQLiteStorage(ROOT), 2, "No such option:? '?--storage"),
        (["count"], MemoryStorage(), 2, "memory"),  # the memory of the server's process cannot be read from here
    ],
)
def test_what_cannot_work_is_explained_in_a_sentence(words: list[str], storage: Storage, code: int, text: str) -> None:
    result = _type(storage, *words)
    assert result.exit_code == code
    assert re.search(text, result.output)
    assert isinstance(result.exception, SystemExit)


def test_each_store_has_a_command_of_its_own() -> None:
    root = click.Group()
    admin = SessionStore(SessionConfig(extractor=from_cookie("__Host-admin")))
    app = Litestar([], plugins=[SessionPlugin(SessionStore()), SessionPlugin(admin, scope_key="admin_session")])
    for plugin in app.plugins.cli:
        plugin.on_cli_init(root)
    assert set(root.commands) == {"sessions", "admin-sessions"}


def test_litestars_own_command_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    handle = anyio.run(_two, path)
    (tmp_path / "shop.py").write_text(
        "from litestar import Litestar\n"
        "from sessioncore import SessionConfig, SessionStore, SQLiteStorage\n"
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
