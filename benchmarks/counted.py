"""The process whose instructions `benchmarks.instructions` counts; of no use without valgrind around it.

Nothing but requests happens inside a `functools.reduce` of ours, and callgrind collects only there and writes a
dump at its end. It is switched on only when all is imported and warm, since it makes a program 50 times
slower. In memory a request is driven by hand, with no event loop in the count. Requests that
may have to wait (logins, and all that use Redis) run in a burst on a loop, as do those of the bare application.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial, reduce
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.families.starlette import app as starlette_app
from benchmarks.scopes import cookie_line, http_scope, kept_cookies
from benchmarks.workloads import Handler, handlers, next_owner
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as SignedCookie

import sessioncore
from sessioncore import MemoryStorage, SessionConfig, SessionStore, from_cookie
from sessioncore_asgi import SessionMiddleware

MAY_WAIT = {"login", "regenerate", "redis"}
WARM_UP = 100  # requests until the interpreter has specialized its code and every cache is filled

App = Callable[[Any, Any, Any], Any]

_number = count()


def paths(login: Handler | None = None, regenerate: Handler | None = None) -> dict[str, Handler]:
    """What an application with sessions does; the same paths in the same order in each."""

    async def nothing(request: Any) -> None:
        """Do nothing."""

    table = handlers(session_of=lambda request: request.session, login=login)
    return {**table, "regenerate": regenerate or nothing}


def bare() -> App:
    async def nothing(request: Any) -> None:
        """Do nothing."""

    app: App = starlette_app(dict.fromkeys(paths(), nothing))
    return app


def signed_cookie() -> App:
    app: App = starlette_app(paths(), [Middleware(SignedCookie, secret_key="a secret of some length", https_only=True)])
    return app


def ours(storage: Any) -> App:
    async def login(request: Any) -> None:
        await request.session.login(next_owner())

    async def regenerate(request: Any) -> None:
        await request.session.regenerate()

    # Each store has a cookie of its own, as long as the default one: stores that share one note whose IDs are whose.
    store = SessionStore(SessionConfig(storage=storage, extractor=from_cookie(f"session_{next(_number):02}")))
    app: App = starlette_app(paths(login, regenerate), [Middleware(SessionMiddleware, store=store)])
    return app


async def no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def to_nobody(message: Any) -> None:
    pass


async def answer(app: App, scope: Any) -> bytes:
    """Serve one request that must succeed; return the Cookie header that its visitor would send from now on."""
    found: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
            found.append(kept_cookies(message["headers"]))

    await app(scope, no_body, send)
    return found[0]


async def visitor(app: App) -> bytes:
    """The Cookie header of a new visitor with a full session; some other one where there are no sessions."""
    return cookie_line(await answer(app, http_scope("/fill")) or b"sid=none")


async def scopes(app: App, workload: str, count: int) -> list[Any]:
    """Return requests of strangers, of one visitor, or of a new visitor each; pop them until None."""
    if workload in {"untouched", "first"}:
        cookies = [b""] * count
    elif workload in {"login", "regenerate"}:
        cookies = [await visitor(app) for _ in range(count)]
    else:
        cookies = [await visitor(app)] * count
    return [None, *(http_scope(f"/{workload}", cookie) for cookie in cookies)]


def by_hand(app: App, _: None, scope: Any) -> None:
    """Serve one request that never has to wait."""
    try:
        app(scope, no_body, to_nobody).send(None)
    except StopIteration:
        return
    raise RuntimeError("this request waits for something: it cannot be driven by hand")


async def burst(app: App, requests: list[Any]) -> None:
    for scope in iter(requests.pop, None):
        await app(scope, no_body, to_nobody)


def on_loop(loop: asyncio.AbstractEventLoop, _: None, work: Awaitable[None]) -> None:
    loop.run_until_complete(work)


class Counter:
    """Runs requests where callgrind counts them, and keeps which dump has their number of instructions."""

    def __init__(self, folder: Path, requests: int, loop: asyncio.AbstractEventLoop) -> None:
        self._folder = folder
        self._requests = requests
        self._loop = loop
        self.dumps: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def warm_up(self, workload: str, app: App, path: str) -> None:
        """Serve requests for this path until the interpreter has seen enough of them."""
        [_, scope] = self._loop.run_until_complete(scopes(app, path, 1))
        self._loop.run_until_complete(answer(app, scope))  # nobody checks the replies that are counted afterwards
        self._serve(app, path, WARM_UP, waits=workload in MAY_WAIT)

    def count(self, workload: str, side: str, app: App, path: str) -> None:
        """Serve some requests, because other applications ran meanwhile, then those that count; keep their dump."""
        self._serve(app, path, WARM_UP // 10, waits=workload in MAY_WAIT)
        before = self._written()
        self._serve(app, path, self._requests, waits=workload in MAY_WAIT)
        dumps = self._written() - before
        if not dumps:
            sys.exit("not run: callgrind does not see functools.reduce; is this Python stripped of its symbols?")
        # If there are more, a request calls reduce as well, and was counted in part.
        [self.dumps[workload][side]] = dumps

    def _serve(self, app: App, path: str, number: int, *, waits: bool) -> None:
        requests = self._loop.run_until_complete(scopes(app, path, number))
        gc.collect()
        gc.freeze()
        gc.disable()
        if waits:
            reduce(partial(on_loop, self._loop), [burst(app, requests)], None)
        else:  # a scope dies with its request, and the session with its scope
            reduce(partial(by_hand, app), iter(requests.pop, None), None)
        gc.enable()

    def _written(self) -> set[str]:
        return {path.name for path in self._folder.iterdir() if path.suffix[1:].isdecimal()}


def applications(workload: str, redis: str) -> dict[str, App]:
    """The applications whose requests are compared."""
    if workload == "redis":
        from sessioncore.storage.redis import RedisStorage  # noqa: PLC0415 - the guard in the tests needs no client

        return {"ours": ours(RedisStorage.from_url(redis)), "bare": bare()}
    beside = {} if workload in MAY_WAIT else {"cookie": signed_cookie()}
    return {"ours": ours(MemoryStorage()), "bare": bare(), **beside}


def start_looking() -> None:
    """Have callgrind count what runs from here on."""
    command = ["vgdb", f"--pid={os.getpid()}", "--max-invoke-ms=0", "instrumentation", "on"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as message:
        while message.poll() is None:  # valgrind takes messages while its program runs
            pass
    if message.returncode:
        sys.exit("callgrind was told to look, and did not hear it")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("workloads", nargs="+")
    options.add_argument("--requests", type=int, required=True)
    options.add_argument("--redis", default="", metavar="URL")
    chosen = options.parse_args()
    loop = asyncio.new_event_loop()
    counter = Counter(chosen.folder, chosen.requests, loop)
    compared = {workload: applications(workload, chosen.redis) for workload in chosen.workloads}
    parts = [(name, side, app) for name, apps in compared.items() for side, app in apps.items()]
    for name, _, app in parts:
        counter.warm_up(name, app, "update" if name == "redis" else name)
    start_looking()
    for name, side, app in parts:
        counter.count(name, side, app, "update" if name == "redis" else name)
    print(json.dumps({"sessioncore": sessioncore.__file__, "dumps": counter.dumps}))


if __name__ == "__main__":
    main()
