"""Starts the shop, or checks it: `python -m docs.examples.shop [--port N] [--database FILE] [--check]`."""

import argparse
import contextlib
import socket
from pathlib import Path

import uvicorn

from . import check
from .app import build
from .pages import HERE

USUAL_PORT = 8000


def main() -> int:
    """Read the command line and do what it says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.examples.shop", description="A shop on sessioncore.")
    parser.add_argument("--port", type=int, help=f"default: {USUAL_PORT}, or any free one if that is taken")
    parser.add_argument("--database", type=Path, default=HERE / ".data" / "shop.sqlite3", help="where sessions live")
    parser.add_argument("--check", action="store_true", help="start the shop, drive it as visitors would, stop it")
    options = parser.parse_args()
    if options.check:
        return check.main()
    try:
        return serve(options.port, options.database)
    except OSError as exc:
        parser.exit(1, f"The shop cannot open: {exc}. Try another --port or --database.\n")


def serve(port: int | None, database: Path) -> int:
    """Serve until interrupted; returns the exit status."""
    database.parent.mkdir(parents=True, exist_ok=True)
    listener = listen(port)
    url = "http://{}:{}".format(*listener.getsockname())
    print(f"The shop opens at {url}\nSessions live in {database}. Ctrl+C closes the shop.", flush=True)
    server = uvicorn.Server(uvicorn.Config(build(database), log_level="warning", timeout_graceful_shutdown=1))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0 if server.started else 1


def listen(port: int | None) -> socket.socket:
    """Return a listening socket on `port`; on the usual one, or any that is free, if it is None."""
    if port is None:
        with contextlib.suppress(OSError):
            return listen(USUAL_PORT)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port or 0))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


if __name__ == "__main__":
    raise SystemExit(main())
