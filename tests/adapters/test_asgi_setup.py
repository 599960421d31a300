"""Setting the ASGI middleware up: what it refuses and hides, when it loads, when the storage is open."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from tests.adapters.asgi import START, Message, Wire, ask, http_scope, run
from tests.stores import SpyStorage, without_checks
from tests.views import as_shown

from sessioncore import (
    ConfigError,
    Exchange,
    MemoryStorage,
    RequestView,
    SessionConfig,
    SessionNotLoaded,
    SessionStore,
    StorageUnavailable,
    from_cookie,
)
from sessioncore_aiohttp import session_middleware, setup
from sessioncore_asgi import SessionMiddleware, get_session
from sessioncore_asgi._responder import Responder
from sessioncore_asgi._view import AsgiView
from sessioncore_litestar import SessionBackendConfig, SessionPlugin

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


TAKERS: list[tuple[str, Callable[[Any], object]]] = [
    ("SessionMiddleware", lambda store: SessionMiddleware(Starlette(), store)),
    ("setup", lambda store: setup(web.Application(), store)),
    ("session_middleware", session_middleware),
    ("SessionPlugin", SessionPlugin),
    ("SessionBackendConfig", SessionBackendConfig),
]


@pytest.mark.parametrize(("name", "take"), TAKERS)
def test_what_is_no_store_is_refused_with_what_to_pass(name: str, take: Callable[[Any], object]) -> None:
    for wrong in (SessionConfig(), MemoryStorage(), None):
        with pytest.raises(ConfigError, match=rf"^{name} takes .*{type(wrong).__name__}; pass SessionStore\("):
            take(wrong)


def test_the_error_of_a_missing_framework_names_its_extra() -> None:
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiohttp", "litestar", "fastapi"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.path[:0] = {[str(ROOT / "src"), str(ROOT / "src" / "adapters")]!r}
sys.meta_path.insert(0, Missing())
for module in ("sessioncore_aiohttp", "sessioncore_litestar", "sessioncore_asgi.fastapi"):
    try:
        __import__(module)
    except ModuleNotFoundError as exc:
        print(exc.name, exc)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        f"{name} this needs {name}, which is not installed; pip install 'sessioncore[{name}]'"
        for name in ("aiohttp", "litestar", "fastapi")
    ]


async def test_a_repr_shows_neither_headers_nor_the_id() -> None:
    seen: list[str] = []

    def remember(view: RequestView) -> bool:
        assert isinstance(view, AsgiView)
        seen.append(as_shown(view))
        return False

    store = SessionStore(SessionConfig(skip=remember))
    sid = (await store.create({"n": 1})).id

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange, responder = scope["sessioncore"][1], send.__self__
        assert isinstance(exchange, Exchange)
        assert isinstance(responder, Responder)
        seen.extend(as_shown(thing) for thing in (exchange, scope["session"], responder, send, receive))
        await send({"type": "http.response.start", "status": 204, "headers": []})

    for lazy in (False, True):
        await ask(SessionMiddleware(app, store, lazy=lazy), sid=sid)
    seen.append(as_shown(AsgiView(http_scope(sid=sid), Wire([]).receive, "GET")))
    assert len(seen) == 12
    assert not [text for text in seen if sid in text or "shop.example" in text]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_lazy_loads_when_asked_and_refuses_to_be_used_before(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/too-soon":
            scope["session"].get("n")
        if scope["path"] != "/unasked":
            session = await get_session(scope)
            assert session is scope["session"]
            session["n"] += 1
        await send(START if kind == "http" else {"type": "websocket.accept"})

    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    sid = (await store.create({"n": 1})).id
    storage.calls.clear()
    lazy = SessionMiddleware(app, store, lazy=True)
    for path, calls, raises in (
        ("/unasked", [], None),
        ("/", ["load", "replace"], None),
        ("/too-soon", [], None if kind == "http" else SessionNotLoaded),
    ):
        await run(lazy, {**http_scope(path, sid), "type": kind}, raises=raises)
        assert storage.calls == calls
        storage.calls.clear()
    assert dict(await store.get_by_id(sid)) == {"n": 2}


async def test_a_middleware_around_a_mounted_application_keeps_its_own_session() -> None:
    async def count(request: Request) -> JSONResponse:
        return JSONResponse((await get_session(request)).mutate("n", lambda n: n + 1, 0))

    async def after(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        request.session["after"] = request.session.get("after", 0) + 1
        assert await get_session(request) is request.session
        return response

    outer, inner = (SessionStore(SessionConfig(extractor=from_cookie(name))) for name in ("outer", "inner"))
    mounted = Starlette(routes=[Route("/count", count)], middleware=[Middleware(SessionMiddleware, store=inner)])
    around = [Middleware(SessionMiddleware, store=outer), Middleware(BaseHTTPMiddleware, dispatch=after)]
    app = Starlette(routes=[Mount("/inner", mounted)], middleware=around)
    headers: list[tuple[bytes, bytes]] = []
    for n in (1, 2):
        wire = await ask(app, "/inner/count", headers=headers)
        assert wire.body == str(n).encode()
        headers = headers or [(b"cookie", line.partition(";")[0].encode()) for line in wire.all("set-cookie")]
    sids = dict(pair.decode().split("=") for _, pair in headers)
    found = [dict(await store.get_by_id(sids[name])) for name, store in (("outer", outer), ("inner", inner))]
    assert found == [{"after": 2}, {"n": 2}]


async def test_a_request_that_an_outer_middleware_serves_again_has_a_session_again(store: SessionStore) -> None:
    async def add(scope: Any, receive: Any, send: Any) -> None:
        await get_session(scope, scope_key="other")  # of the middleware around both calls
        counts = await get_session(scope)
        body = f"{counts.mutate('n', lambda n: n + 1)}".encode()
        await send(START)
        await send({"type": "http.response.body", "body": body})

    async def retry(scope: Any, receive: Any, send: Any) -> None:
        await ours(scope, receive, Wire([]).send)
        await ours(scope, receive, send)

    ours = SessionMiddleware(add, store)
    other = SessionStore(SessionConfig(extractor=from_cookie("__Host-other")))
    wire = await ask(SessionMiddleware(retry, other, scope_key="other"), sid=(await store.create({"n": 1})).id)
    assert (wire.body, wire.all("vary")) == (b"3", ["Cookie"])


async def test_without_a_middleware_the_error_says_how_to_add_one() -> None:
    with pytest.raises(SessionNotLoaded, match=r"add_middleware\(SessionMiddleware.*add it last"):
        await get_session(http_scope())
    with pytest.raises(SessionNotLoaded, match="scope_key='admin'"):
        await get_session(Request(http_scope()), scope_key="admin")


STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}
BOTH = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def live(app: Any, store: SessionStore, *, raises: type[Exception] | None = None) -> Wire:
    """Start and stop an application."""
    scope: dict[str, Any] = {"type": "lifespan", "state": {"a": 1}}
    wire = await run(SessionMiddleware(app, store), scope, STARTUP, SHUTDOWN, raises=raises)
    assert scope == {"type": "lifespan", "state": {"a": 1}}
    return wire


def application(storage: SpyStorage) -> Any:
    """An application that notes its start and its end among the calls of the storage."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() is STARTUP
        storage.calls.append("app starts")
        await send({"type": "lifespan.startup.complete"})
        assert await receive() is SHUTDOWN
        storage.calls.append("app stops")
        await send({"type": "lifespan.shutdown.complete"})

    return app


async def test_the_storage_opens_before_the_application_starts_and_closes_after_it_stopped(
    store: SessionStore, storage: SpyStorage
) -> None:
    other = SpyStorage()
    inner = SessionMiddleware(application(storage), SessionStore(SessionConfig(storage=other)), scope_key="other")
    assert (await live(inner, store)).kinds == BOTH
    assert without_checks(storage.calls) == ["open", "app starts", "app stops", "aclose"]
    assert without_checks(other.calls) == ["open", "aclose"]


async def test_an_open_that_fails_stops_the_start_with_its_reason(store: SessionStore, storage: SpyStorage) -> None:
    async def without(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no lifespan here")

    storage.fail("open")
    for app in (application(storage), without):
        wire = await live(app, store, raises=StorageUnavailable)
        assert wire.kinds == ["lifespan.startup.failed"]
        assert "did not open: failed by a test" in wire.sent[0]["message"]
    assert "app starts" not in storage.calls


async def test_whatever_an_application_does_with_its_lifespan_the_storage_is_open_meanwhile_and_closed_afterwards(
    store: SessionStore, storage: SpyStorage
) -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    async def ignores(scope: Any, receive: Any, send: Any) -> None:
        return

    async def takes_it_for_a_request(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("path")

    async def fails_to_start(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    async def fails_to_stop(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "stuck"})

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("cannot start")

    async def returns(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    for app, kinds, error in (
        *((app, BOTH, None) for app in (refuses, ignores, takes_it_for_a_request)),
        (fails_to_start, ["lifespan.startup.failed"], RuntimeError),
        (fails_to_stop, ["lifespan.startup.complete", "lifespan.shutdown.failed"], None),
        (raises, [], RuntimeError),
        (returns, [], None),
    ):
        assert (await live(app, store, raises=error)).kinds == kinds
        assert without_checks(storage.calls) == ["open", "aclose"]
        storage.calls.clear()
