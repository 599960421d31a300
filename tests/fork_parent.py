"""The parent of the forks that `tests.forks` starts: it forks for each request that comes over its socket."""

import gc
import importlib
import json
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request; return it in the child that carries it out."""
    while True:
        try:
            said, streams, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        except KeyboardInterrupt:  # the tests end
            os._exit(0)
        if not said:
            os._exit(0)
        request: dict[str, Any] = json.loads(said)
        for module in request["modules"]:
            importlib.import_module(module)
        gc.freeze()
        reply, told = os.pipe()
        adopted, waiting = os.pipe()
        if not (between := os.fork()):
            if child := os.fork():
                os.write(told, b"%d" % child)
                os._exit(0)
            os.close(waiting)
            os.read(adopted, 1)  # ends with the process between; then this one is a child of the test's process
            requests.close()
            for descriptor in (reply, told, adopted):
                os.close(descriptor)
            for own, stream in enumerate(streams):
                os.dup2(stream, own)
                os.close(stream)
            return request
        os.waitpid(between, 0)
        requests.send(os.read(reply, 100))
        for descriptor in (reply, told, adopted, waiting, *streams):
            os.close(descriptor)


def run(request: dict[str, Any], path: list[str]) -> None:
    """Run the command as a newly started Python would."""
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        number = getattr(sys, name).fileno()
        direct = name == "stderr" or "PYTHONUNBUFFERED" in os.environ
        setattr(sys, name, open(number, mode, buffering=1 if direct else -1, encoding="utf-8", closefd=False))  # noqa: SIM115
    first, *arguments = request["command"]
    program = arguments.pop(0) if first in {"-m", "-c"} else first
    where = f"{Path(program).absolute().parent}" if program == first else request["folder"]
    sys.path[:] = [where, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    sys.argv[:] = [program, *arguments]
    if first == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    elif first == "-c":
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(f"{Path(program).absolute()}", run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # the folder where it was started, which `-m` has added
    run(serve(socket.socket(fileno=int(sys.argv[1]))), [*sys.path])
