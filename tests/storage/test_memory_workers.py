"""Sessions in memory when a server has several worker processes: each of them warns, and no other process does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.processes import ENVIRONMENT
from tests.stores import SpyStorage

from sessioncore import MemoryStorage
from sessioncore._warnings import Warnings
from sessioncore.storage.memory._workers import warn_in_workers, worker_count

ROOT = Path(__file__).parents[2]
APP = """
from sessioncore import SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware

async def page(scope, receive, send):
    raise RuntimeError("no lifespan")

app = SessionMiddleware(page, SessionStore(SessionConfig.development()))

if __name__ == "__main__":
    import uvicorn

    uvicorn.run("serve:app", port=0, workers=2)
"""
UVICORN = ["-m", "uvicorn", "serve:app", "--port", "0"]
HYPERCORN = ["-m", "hypercorn", "serve:app", "--bind", "127.0.0.1:0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "processes", "warnings"),
    [
        pytest.param([*UVICORN, "--workers", "2"], 2, 2, id="uvicorn with two workers"),
        pytest.param(["serve.py"], 2, 2, id="uvicorn with two workers, from a program"),
        pytest.param([*UVICORN, "--reload"], 1, 0, id="uvicorn that reloads"),
        pytest.param([*HYPERCORN, "--workers", "2"], 2, 2, id="hypercorn with two workers"),
        pytest.param(HYPERCORN, 1, 0, id="hypercorn, whose one worker is a child process, too"),
    ],
)
def test_each_of_several_workers_warns(command: list[str], processes: int, warnings: int, tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(APP)
    server = subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=ENVIRONMENT,
    )  # fmt: skip
    with server:
        assert server.stdout is not None
        said: list[str] = []
        for line in server.stdout:  # ends when the server does
            said.append(line)
            if len(re.findall(r"startup complete|Running on http", "".join(said))) == processes:
                break
        server.terminate()
        said += server.stdout
    assert "".join(said).count("MemoryStorage in one of 2 worker processes") == warnings, said


GUNICORN = {"SERVER_SOFTWARE": "gunicorn/23.0.0"}


@pytest.mark.parametrize(
    ("environment", "arguments", "count"),
    [
        ({}, ["-w", "4"], 1),  # this process is not a worker
        ({"WEB_CONCURRENCY": "4"}, [], 1),
        (GUNICORN, [], 1),
        (GUNICORN, ["-w", "4"], 4),
        (GUNICORN, ["-w4"], 4),
        (GUNICORN, ["--workers=3", "app:app"], 3),
        (GUNICORN, ["--workers", "1"], 1),
        (GUNICORN, ["app:app", "-w"], 1),
        (GUNICORN | {"WEB_CONCURRENCY": "4"}, [], 4),
        (GUNICORN | {"WEB_CONCURRENCY": "4"}, ["-w", "1"], 1),
        (GUNICORN | {"WEB_CONCURRENCY": "many"}, [], 1),
        (GUNICORN | {"GUNICORN_CMD_ARGS": "--workers=2 --bind=:80"}, [], 2),
        (GUNICORN, ["-w", "4", "--reload"], 1),
    ],
)
def test_the_workers_of_gunicorn_are_recognised_by_its_settings(
    environment: dict[str, str], arguments: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SERVER_SOFTWARE", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["gunicorn", *arguments])
    assert worker_count() == count


def test_only_memory_is_warned_of_and_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/23.0.0")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    monkeypatch.setattr(sys, "argv", ["gunicorn"])
    warnings = Warnings()
    warn_in_workers(SpyStorage(), warnings)
    assert caplog.records == []
    for _ in range(2):
        warn_in_workers(MemoryStorage(), warnings)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
