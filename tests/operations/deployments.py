"""Servers as they are deployed: their own commands, in processes of their own, with what they write."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from msgspec import Struct
from servers.redis_server import free_port
from tests.adapters.browser import Address, ask, compose, until
from tests.forks import forking

from sessioncore.storage._free_threading import FREE_THREADED

__all__ = ["AIOHTTP", "ASGI", "COMMANDS", "ROOT", "Deployment", "deployed"]

ROOT = Path(__file__).parents[2]
ASGI, AIOHTTP = "tests.operations.asgi_site:app", "tests.operations.aiohttp_site"
GUNICORN = "gunicorn --bind 127.0.0.1:{port} --workers 2 --graceful-timeout 4"
COMMANDS: Final = {  # requests in flight get fewer seconds than platforms wait before they kill a process
    "uvicorn": f"uvicorn {ASGI} --port {{port}} --workers 2 --timeout-graceful-shutdown 4",
    "hypercorn": f"hypercorn {ASGI} --bind 127.0.0.1:{{port}} --workers 0 --graceful-timeout 4",
    "hypercorn, 2 workers": f"hypercorn {ASGI} --bind 127.0.0.1:{{port}} --workers 2 --graceful-timeout 4",
    "granian": f"granian {ASGI} --interface asgi --port {{port}} --workers 2 --workers-kill-timeout 4",
    "gunicorn": f"{GUNICORN} --worker-class asgi {ASGI}",
    "gunicorn, uvicorn's worker": f"{GUNICORN} --worker-class uvicorn.workers.UvicornWorker {ASGI}",
    "gunicorn, aiohttp's worker": f"{GUNICORN} --worker-class aiohttp.GunicornWebWorker {AIOHTTP}:app",
    "aiohttp": f"{AIOHTTP} {{port}}",
}

NEEDED = [  # by most of them
    "sessioncore.storage.redis", "tests.adapters.apps_asgi", "tests.adapters.apps_aiohttp",
    "gunicorn.app.wsgiapp", "hypercorn.run", "uvicorn.main", "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
]  # fmt: skip


class Deployment(Struct):
    """A running server."""

    address: Address
    folder: Path
    process: subprocess.Popen[bytes]

    def is_on_its_way(self, *requests: str) -> bool:
        return all((self.folder / name).exists() for name in requests)

    def let_requests_go_on(self) -> None:
        (self.folder / "go").touch()

    def answers(self) -> bool:
        """Whether it answers a request; some servers accept connections before they have a worker, and reset them."""
        with suppress(OSError, http.client.HTTPException):
            return ask(self.address, compose("GET", "/ready")).status == 404
        return False

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")


@contextmanager
def deployed(server: str, folder: Path, storage: str, workers: int = 2) -> Generator[Deployment]:
    """Run a server with the site for its kind; at the end kill it with its workers."""
    if server == "granian" and FREE_THREADED:
        pytest.skip("without the GIL its workers are threads, which get no signal")
    port = free_port()
    environment = {
        **os.environ, "PYTHONPATH": "src:src/adapters:.", "SITE_FOLDER": str(folder), "SESSIONCORE_STORAGE": storage,
        "HOME": str(folder),  # where gunicorn puts its control socket
    }  # fmt: skip
    line = COMMANDS[server].format(port=port).replace("--workers 2", f"--workers {workers}")
    command = [sys.executable, "-m", *line.split()]
    with (folder / "log").open("wb") as log, forking(*NEEDED):
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    site = Deployment(Address(port), folder, process)
    try:
        until(site.answers)
        assert site.answers(), site.log()
        yield site
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
