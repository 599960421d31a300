"""Runs the program that a page shows, unchanged: in this process, or under uvicorn in one of its own."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from msgspec import Struct
from tests.test_docs import DOCS, ROOT, Client, blocks, empty_module

__all__ = ["Client", "Server", "program", "run_alone", "serve_alone"]


def program(page: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Any:
    """Execute the blocks that the page shows, and return them as a module."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = DOCS / page
    module = empty_module("recipe_" + path.stem.replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(_source(page), str(path), "exec"), vars(module))
    return module


def _source(page: str) -> str:
    return "\n".join(block.code for block in blocks(DOCS / page, hidden=False))


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "src/adapters")])}


def run_alone(page: str, code: str, folder: Path) -> None:
    """Run the page's program and `code` after it in a process of their own, for libraries that change other ones."""
    file = folder / "program.py"
    file.write_text(f"{_source(page)}\n{code}")
    done = subprocess.run(
        [sys.executable, file], check=False, capture_output=True, text=True, env=_environment(), cwd=folder
    )
    assert done.returncode == 0, done.stderr


class Server(Struct):
    """The page's program under uvicorn, with TLS."""

    url: str
    trust: ssl.SSLContext

    def client(self, **options: Any) -> httpx.Client:
        """A client that keeps cookies and follows redirects, as a browser does."""
        given: dict[str, Any] = {"follow_redirects": True, "timeout": 60, **options}
        return httpx.Client(base_url=self.url, verify=self.trust, **given)


@contextmanager
def serve_alone(page: str, folder: Path, more: str = "") -> Generator[Server]:
    """Serve the page's `app` from a process of its own while the block lasts; `more` is added to its code."""
    (folder / "program.py").write_text(f"{_source(page)}\n{more}")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()  # a client that connects early waits
        command = [sys.executable, "-m", "uvicorn", "program:app", "--fd", str(sock.fileno()), "--log-level", "warning"]
        tls = ["--ssl-certfile", "server.pem", "--ssl-keyfile", "server.pem"]
        process = subprocess.Popen([*command, *tls], cwd=folder, env=_environment(), pass_fds=[sock.fileno()])
        try:
            yield Server(f"https://localhost:{sock.getsockname()[1]}", trust)
        finally:
            process.terminate()
            process.wait(30)
