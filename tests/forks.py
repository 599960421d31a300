"""Runs the Python processes of a test as forks of one process, which has already imported what they need.

Most of them would spend more time on imports than on their work. While `with forking(MODULE...)` lasts, whatever the
test starts as `python -m MODULE`, `python -c CODE` or `python FILE` is such a fork: a child of the test's process, with
the streams, the environment and the folder that it is given, which ends as any Python does. `forking` has an effect on
Linux only. All forks have the same hash seed and addresses: a test that needs different ones does without `forking`.
"""

import atexit
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["forking"]

_SET_CHILD_SUBREAPER = 36
_ALWAYS = ["anyio._backends._asyncio", "sessioncore"]
_START: Any = subprocess.Popen.__dict__["_execute_child"]
_needed = ContextVar[tuple[str, ...] | None]("modules that a fork needs", default=None)  # None: no forks are wanted


@contextmanager
def forking(*modules: str) -> Generator[None]:
    """Until the block ends, run this task's Python processes as forks of one that has imported these modules."""
    token = _needed.set((*_ALWAYS, *modules))
    try:
        yield
    finally:
        _needed.reset(token)


def _start(process: Any, *arguments: Any) -> None:
    given = inspect.signature(_START).bind(process, *arguments).arguments
    command: list[str] = [os.fspath(word) for word in given["args"]]
    needed = None if given["pass_fds"] or given["preexec_fn"] or given["shell"] else _needed.get()
    if needed is None or command[0] != sys.executable:
        _START(process, *arguments)
        return
    pipes = [given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
    streams = [own if given == -1 else given for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
    environment = os.environ if given["env"] is None else given["env"]
    process.pid = _fork(streams, {
        "modules": needed, "command": command[1:], "session": given["start_new_session"],
        "folder": f"{Path(given['cwd'] or '.').absolute()}", "environment": {**environment},
    })  # fmt: skip
    process._child_created = True
    process._close_pipe_fds(*pipes)


if sys.platform == "linux":
    pytest.MonkeyPatch().setattr(subprocess.Popen, "_execute_child", _start)


def _fork(streams: list[int], request: dict[str, Any]) -> int:
    parent, libc = _parent(), ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # this process adopts the fork when the process between has ended
    try:
        socket.send_fds(parent, [json.dumps(request).encode()], streams)
        return int(parent.recv(100))
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def _parent() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with theirs:
        command = [sys.executable, "-m", "tests.fork_parent", f"{theirs.fileno()}"]
        process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours
