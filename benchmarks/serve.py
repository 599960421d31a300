"""Serves one contender over HTTP, for the load generator: `python -m benchmarks.serve ASKED`.

`ASKED` is JSON: contender (module name, or "bare:FAMILY"), storage, url, server and port.
"""

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web
from benchmarks.families import bare
from benchmarks.places import Place
from granian import Granian
from granian.constants import Interfaces

VARIABLE = "SESSIONCORE_BENCH"  # how granian's worker learns what to serve


def application(asked: dict[str, Any]) -> Any:
    name, storage, url = asked["contender"], asked["storage"], asked["url"]
    if name.startswith("bare:"):
        return bare(name.partition(":")[2])
    module = importlib.import_module(f"benchmarks.contenders.{name}")
    return module.build(Place(storage, url, Path()))


def __getattr__(name: str) -> Any:
    """Let granian's worker find `app`."""
    if name == "app":
        return application(json.loads(os.environ[VARIABLE]))
    raise AttributeError(name)


def main() -> None:
    asked = json.loads(sys.argv[1])
    server, port = asked["server"], asked["port"]
    if server == "granian":
        os.environ[VARIABLE] = sys.argv[1]
        Granian(
            "benchmarks.serve:app", port=port, interface=Interfaces.ASGI, workers=1, log_access=False, log_enabled=False
        ).serve()
    elif server == "uvicorn":
        uvicorn.run(application(asked), port=port, access_log=False, log_level="warning")
    else:
        web.run_app(
            application(asked), host="127.0.0.1", port=port, access_log=None, print=None, loop=asyncio.new_event_loop()
        )


if __name__ == "__main__":
    main()
