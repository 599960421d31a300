"""Real servers for the command line, and the command itself as a process."""

import io
import json
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import Struct
from servers.postgres_server import PostgresServer
from servers.redis_server import Server
from tests.forks import forking
from tests.models import Item

from sessioncore import SessionConfig, SessionStore, storage_from_url
from sessioncore.__main__ import main

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("SESSIONCORE_", "FORCE_", "COLUMNS"))},
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "src" / "adapters")]),
}
COMMAND = [sys.executable, "-m", "sessioncore"]


class Run(Struct):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=pytest.fail)


def command(*words: str, answer: str = "", cwd: Path | None = None, **changed: str) -> Run:
    """Run the command as a person does."""
    with nullcontext() if "PYTHONPATH" in changed else forking("sessioncore.cli"):
        done = subprocess.run(
            [*COMMAND, *words], input=answer, env=ENVIRONMENT | changed, cwd=cwd,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


def in_this_process(*words: str, answer: str = "", cwd: Path = ROOT) -> Run:
    """Run the program's main function in this process: to start another one takes a second."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "argv", ["sessioncore", *words])
        patch.setattr(sys, "stdin", io.StringIO(answer))
        code = main()
    sys.modules.pop("app", None)  # the next folder may have another one
    return Run(code, out.getvalue(), err.getvalue())


class Place(Struct):
    """A storage with five sessions of bob and one of ada; each command in `programs` runs as a process once."""

    url: str
    programs: set[str]
    handle: str = ""
    sid: str = ""
    moved: str = ""

    def __call__(self, *words: str, **more: Any) -> Run:
        as_program = self.programs & {*words}
        self.programs -= as_program
        run = (command if as_program else in_this_process)("--storage", self.url, *words, **more)
        assert self.sid == "" or self.sid not in run.out + run.err
        return run


VALUES = {
    "cart": [Item("tea", 2)], "when": datetime(2026, 1, 2, tzinfo=UTC), "nan": float("nan"), "raw": b"\x00x",
    "by number": {1: (2, {3})}, "like a type": {"type": 1, "value": 2}, "esc \x1b[31m": "[red]\u202e",
}  # fmt: skip


async def _fill(place: Place) -> None:
    store = SessionStore(SessionConfig(storage=storage_from_url(place.url)))
    store.register_type(Item, name="shop.Item")
    async with store:
        for number in range(5):
            await store.create({"n": number}, owner="bob")
        created = await store.create(VALUES, owner="ada", device="phone \x1b[31m[red]\n")
        place.moved = created.handle
        async with store.open(created.id) as session:
            await session.regenerate()
        place.handle, place.sid = session.handle, session.id


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, server: Server, postgres: PostgresServer) -> dict[str, str]:
    server.do("FLUSHALL")
    dsn = postgres.new_database()
    return {
        "sqlite": f"sqlite:///{tmp_path_factory.mktemp('cli')}/sessions.db",
        "redis": server.url,
        "postgres": dsn,
        "keyvalue": f"keyvalue+redis://127.0.0.1:{server.port}/3",
        "keyvalue-unlisted": f"keyvalue+{dsn}",
    }


def filled(url: str, *programs: str) -> Place:
    place = Place(url, {*programs})
    anyio.run(_fill, place)
    return place
