"""The ASGI middleware, message by message: every kind of response, failure, nesting and body."""

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from tests.asgi import Message, Wire, ask, http_scope, run_http
from tests.stores import SpyStorage

from sessioncore import (
    RequestView,
    ResponseStarted,
    Session,
    SessionConfig,
    SessionError,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
    StorageUnavailable,
    UnregisteredType,
    from_cookie,
    from_param,
)
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY: Message = {"type": "http.response.body", "body": b"ok"}

Handler = Callable[[Session, Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Site:
    """A raw ASGI application of one handler, behind the middleware."""

    def __init__(self, handler: Handler | None = None, *, lazy: bool = False, **config: Any) -> None:
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage, **config))
        self.handler = handler
        self.app = SessionMiddleware(self.serve, self.store, lazy=lazy)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.handler is not None
        await self.handler(scope["session"], send)

    async def make(self, **data: Any) -> str:
        session = await self.store.create(data or {"n": 1})
        self.storage.calls.clear()
        return session.id

    async def data(self, sid: str) -> dict[str, Any]:
        return dict(await self.store.get_by_id(sid))


async def answer(send: Callable[[Message], Awaitable[None]], *messages: Message) -> None:
    for message in messages or (START, BODY):
        await send(message)


async def count(session: Session, send: Callable[[Message], Awaitable[None]]) -> None:
    session["n"] = session.get("n", 0) + 1
    await answer(send)


def starlette(store: SessionStore, *handlers: Callable[[Request], Awaitable[Response]], **options: Any) -> Any:
    """A Starlette application whose handlers stand at `/<name>`."""
    app = Starlette(
        routes=[Route(f"/{handler.__name__}", handler, methods=["GET", "POST"]) for handler in handlers], **options
    )
    app.add_middleware(SessionMiddleware, store=store)
    return app


# -- untouched


async def test_an_untouched_response_is_passed_on_as_the_very_same_messages() -> None:
    messages: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": [(b"X", b"y")], "trailers": True},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
        {"type": "http.response.trailers", "headers": [(b"t", b"1")]},
    ]

    async def handler(session: Session, send: Any) -> None:
        await answer(send, *messages)

    site = Site(handler)
    sid = await site.make()
    for lazy in (False, True):
        app = SessionMiddleware(site.serve, site.store, lazy=lazy)
        for given in (None, sid, "u" * 43, "short"):
            site.storage.calls.clear()
            wire = await ask(app, sid=given)
            assert len(wire.sent) == 4
            assert all(got is meant for got, meant in zip(wire.sent, messages, strict=True))
            loads = 0 if lazy or given in {None, "short"} else 1
            assert site.storage.calls == ["load"] * loads


async def test_a_read_changes_vary_and_leaves_the_applications_message_alone() -> None:
    headers = [(b"content-type", b"text/plain")]
    message: Message = {"type": "http.response.start", "status": 200, "headers": headers}

    async def handler(session: Session, send: Any) -> None:
        session.get("n")
        await answer(send, message, BODY)

    wire = await ask(Site(handler).app)
    assert wire.all("vary") == ["Cookie"]
    assert headers == [(b"content-type", b"text/plain")]
    assert message["headers"] is headers


async def test_headers_may_be_any_iterable_of_pairs_or_missing() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        await answer(send, {"type": "http.response.start", "status": 200, **extra}, BODY)

    pairs = [[b"a", b"1"], (b"b", b"2")]
    for extra in ({}, {"headers": iter(pairs)}, {"headers": tuple(pairs)}):
        wire = await ask(Site(handler).app)
        assert wire.sid
        if extra:
            assert wire.start["headers"][:2] == [(b"a", b"1"), (b"b", b"2")] or wire.start["headers"][:2] == pairs


# -- every kind of response


async def test_a_stream_has_its_cookie_first_and_its_late_changes_are_stored_at_its_end() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["before"] = 1
        await send(START)
        for number in range(3):
            session["late"] = number
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 2})

    site = Site(handler)
    wire = await ask(site.app)
    assert [message["type"] for message in wire.sent] == ["http.response.start"] + ["http.response.body"] * 3
    assert wire.sid
    assert site.storage.calls == ["create", "replace"]
    assert await site.data(wire.sid) == {"before": 1, "late": 2}


async def test_an_explicit_save_is_not_repeated_at_the_end() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        await session.save()
        await answer(send)

    site = Site(handler)
    wire = await ask(site.app)
    assert wire.sid
    assert site.storage.calls == ["create"]


async def test_server_sent_events_store_between_the_events_when_told_to() -> None:
    seen: list[int] = []

    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            for number in range(3):
                session = await get_session(request)
                session["seen"] = number
                await session.save()
                seen.append((await store.get_by_id(session.id))["seen"])
                yield f"data: {number}\n\n"

        request.session["begun"] = True
        return StreamingResponse(stream(), media_type="text/event-stream")

    store = SessionStore()
    wire = await ask(starlette(store, events), "/events")
    assert wire.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert seen == [0, 1, 2]
    assert dict(await store.get_by_id(wire.sid or "")) == {"begun": True, "seen": 2}


async def test_a_background_task_can_change_the_session_that_the_client_has() -> None:
    async def page(request: Request) -> Response:
        async def later() -> None:
            request.session["later"] = True

        request.session["n"] = 1
        return PlainTextResponse("ok", background=BackgroundTask(later))

    store = SessionStore()
    wire = await ask(starlette(store, page), "/page")
    assert dict(await store.get_by_id(wire.sid or "")) == {"n": 1, "later": True}


async def test_a_task_that_outlives_the_request_is_refused() -> None:
    kept: list[Session] = []

    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        kept.append(session)
        await answer(send)

    await ask(Site(handler).app)
    with pytest.raises(SessionReleased, match=r"store\.open"):
        kept[0]["n"] = 2


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("OPTIONS", 200), ("GET", 204), ("GET", 304)])
async def test_responses_without_a_body_carry_the_cookie(method: str, status: int) -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        await answer(send, {**START, "status": status}, {"type": "http.response.body"})

    wire = await ask(Site(handler).app, method=method)
    assert wire.status == status
    assert wire.sid
    assert wire.all("cache-control") == ["no-store"]


async def test_interim_responses_and_pushes_pass_before_the_final_response_carries_the_cookie() -> None:
    hints: Message = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
    push: Message = {"type": "http.response.push", "path": "/a.css", "headers": []}
    interim: Message = {"type": "http.response.start", "status": 103, "headers": [(b"link", b"</a.css>")]}
    debug: Message = {"type": "http.response.debug", "info": {}}

    async def handler(session: Session, send: Any) -> None:
        session["a"] = 1
        await answer(send, hints, push, interim, debug)
        session["b"] = 2  # not late: the final response has not started
        await session.regenerate()
        await answer(send)

    site = Site(handler)
    wire = await ask(site.app)
    assert wire.sent[:4] == [hints, push, interim, debug]
    assert site.storage.calls == ["create"]
    final = wire.sent[4]
    assert [key for key, _ in final["headers"]].count(b"set-cookie") == 1
    assert [key for key, _ in wire.sent[2]["headers"]] == [b"link"]


async def test_a_file_is_sent_with_the_cookie(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"content")

    async def file(request: Request) -> Response:
        request.session["n"] = 1
        return FileResponse(path)

    wire = await ask(starlette(SessionStore(), file), "/file", extensions={"http.response.pathsend": {}})
    assert wire.sid
    assert [message["type"] for message in wire.sent] == ["http.response.start", "http.response.pathsend"]


async def test_a_redirect_after_login_moves_the_session() -> None:
    async def handler(session: Session, send: Any) -> None:
        await session.login("ada")
        await answer(send, {**START, "status": 303, "headers": [(b"location", b"/")]}, BODY)

    site = Site(handler)
    sid = await site.make(cart=1)
    wire = await ask(site.app, sid=sid)
    assert wire.sid not in {None, "", sid}
    assert await site.data(wire.sid or "") == {"cart": 1}
    assert not await site.store.delete(sid)


# -- failures


async def test_an_exception_before_the_response_drops_the_changes_and_goes_on_to_the_server() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = 2
        await session.login("ada")
        raise ZeroDivisionError

    site = Site(handler)
    sid = await site.make(n=1)
    wire = Wire([])
    with pytest.raises(ZeroDivisionError):
        await site.app(http_scope(sid=sid), wire.receive, wire.send)
    assert wire.sent == []
    assert await site.data(sid) == {"n": 1}


async def test_an_exception_during_a_stream_drops_the_late_changes_and_keeps_the_early_ones() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["early"] = 1
        await send(START)
        session["late"] = 1
        raise ZeroDivisionError

    site = Site(handler)
    wire = Wire([])
    with pytest.raises(ZeroDivisionError):
        await site.app(http_scope(), wire.receive, wire.send)
    assert await site.data(wire.sid or "") == {"early": 1}


async def test_a_client_that_leaves_during_a_stream_leaves_what_was_stored_before_it() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["early"] = 1
        await send(START)
        while True:
            session["late"] = 1
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    site = Site(handler)
    wire = Wire([], breaks_at=3)
    with pytest.raises(OSError, match="left"):
        await site.app(http_scope(), wire.receive, wire.send)
    assert (await site.data(wire.sid or ""))["early"] == 1


async def test_a_request_that_is_cancelled_is_stored_before_or_not_at_all_and_released() -> None:
    kept: list[Session] = []

    async def handler(session: Session, send: Any) -> None:
        kept.append(session)
        session["n"] = 2
        await anyio.sleep_forever()

    site = Site(handler)
    sid = await site.make(n=1)
    with anyio.move_on_after(0.02):
        await ask(site.app, sid=sid)
    assert await site.data(sid) == {"n": 1}
    assert kept[0]["n"] == 1  # what is stored
    with pytest.raises(SessionReleased):
        kept[0]["n"] = 3


async def test_a_commit_that_fails_replaces_the_answer_and_the_rest_is_dropped() -> None:
    after: list[str] = []

    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        try:
            await send({**START, "headers": [(b"x-secret", b"1")]})
        except SessionError:
            await send({"type": "http.response.body", "body": b"secret", "more_body": True})
            await send({"type": "http.response.body", "body": b"secret"})
            after.append("dropped")
            raise

    site = Site(handler)
    site.storage.fail("create")
    wire = await ask(site.app)
    assert (wire.status, wire.body) == (503, b"Service Unavailable")
    assert wire.all("x-secret") == wire.all("set-cookie") == []
    assert after == ["dropped"]
    assert [message["type"] for message in wire.sent] == ["http.response.start", "http.response.body"]


async def test_what_an_application_raises_after_its_answer_was_replaced_changes_the_answer_no_more() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = object()
        try:
            await send(START)
        except UnregisteredType as error:
            raise RuntimeError("the framework's own") from error

    wire = Wire([])
    with suppress(RuntimeError):  # for the server's log
        await Site(handler).app(http_scope(), wire.receive, wire.send)
    assert len(wire.sent) == 2
    assert (wire.status, wire.body) == (500, b"Internal Server Error")


async def test_an_application_that_swallows_the_error_still_cannot_claim_success() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = object()
        for message in (START, BODY):
            try:
                await send(message)
            except UnregisteredType:
                continue

    wire = await ask(Site(handler).app)
    assert (wire.status, wire.body) == (500, b"Internal Server Error")


@pytest.mark.parametrize("kind", ["plain", "starlette"])
async def test_a_storage_that_is_down_is_503_where_the_session_is_used_and_200_where_it_is_not(kind: str) -> None:
    async def used(request: Request) -> Response:
        return PlainTextResponse(str(request.session.get("n")))

    async def unused(request: Request) -> Response:
        return PlainTextResponse("fine")

    site = Site()
    sid = await site.make()
    site.storage.fail("load")
    app = starlette(site.store, used, unused)
    if kind == "plain":
        app = SessionMiddleware(Starlette(routes=[Route("/used", used), Route("/unused", unused)]), site.store)
    assert (await ask(app, "/unused", sid)).body == b"fine"
    wire = await _ask_in_spite(app, "/used", sid)
    assert wire.status == 503
    assert wire.all("set-cookie") == []


async def _ask_in_spite(app: Any, path: str, sid: str) -> Wire:
    """Ask an application that may raise after it has answered, as Starlette's catch-all does."""
    wire = Wire([{"type": "http.request"}])
    try:
        await app(http_scope(path, sid), wire.receive, wire.send)
    except SessionError:
        assert wire.sent
    return wire


async def test_an_applications_own_handler_for_our_errors_has_the_last_word() -> None:
    async def page(request: Request) -> Response:
        return PlainTextResponse(str(request.session.get("n")))

    async def unavailable(request: Request, error: Exception) -> Response:
        return PlainTextResponse("please wait", 503, {"retry-after": "5"})

    site = Site()
    sid = await site.make()
    site.storage.fail("load")
    wire = await ask(starlette(site.store, page, exception_handlers={StorageUnavailable: unavailable}), "/page", sid)
    assert (wire.status, wire.body, wire.all("retry-after")) == (503, b"please wait", ["5"])


async def test_an_exception_that_is_a_response_keeps_the_changes() -> None:
    async def page(request: Request) -> Response:
        request.session["tries"] = 1
        raise HTTPException(401)

    store = SessionStore()
    wire = await ask(starlette(store, page), "/page")
    assert wire.status == 401
    assert dict(await store.get_by_id(wire.sid or "")) == {"tries": 1}


async def test_a_late_change_that_cannot_be_stored_is_an_error_for_the_server() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        await answer(send)
        session["n"] = object()

    site = Site(handler)
    wire = Wire([])
    with pytest.raises(UnregisteredType):
        await site.app(http_scope(), wire.receive, wire.send)
    assert wire.status == 200
    assert await site.data(wire.sid or "") == {"n": 1}


async def test_after_the_start_an_error_of_the_session_goes_to_the_server() -> None:
    async def handler(session: Session, send: Any) -> None:
        await send(START)
        session["n"] = 1

    site = Site(handler)
    wire = Wire([])
    with pytest.raises(ResponseStarted):
        await site.app(http_scope(), wire.receive, wire.send)
    assert site.storage.calls == []


async def test_a_handler_that_answers_nothing_stores_nothing() -> None:
    async def handler(session: Session, send: Any) -> None:
        session["n"] = 2

    site = Site(handler)
    sid = await site.make(n=1)
    wire = await ask(site.app, sid=sid)
    assert wire.sent == []
    assert await site.data(sid) == {"n": 1}


# -- nesting


async def test_the_same_store_twice_is_one_session_one_load_and_one_cookie() -> None:
    site = Site(count)
    app = SessionMiddleware(SessionMiddleware(site.app, site.store), site.store, lazy=False)
    wire = await ask(app)
    assert len(wire.all("set-cookie")) == 1
    assert wire.all("vary") == ["Cookie"]
    await ask(app, sid=wire.sid)
    assert site.storage.calls == ["create", "load", "replace"]


async def test_a_mounted_application_with_a_middleware_of_its_own_shares_the_session() -> None:
    async def page(request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse(str(request.session["n"]))

    store = SessionStore()
    app = Starlette(routes=[Mount("/inner", starlette(store, page)), Route("/page", page)])
    app.add_middleware(SessionMiddleware, store=store)
    wire = await ask(app, "/page")
    sid = wire.sid
    assert len((await ask(app, "/inner/page", sid)).all("set-cookie")) == 0
    assert (await ask(app, "/page", sid)).body == b"3"
    assert (await ask(app, "/inner/page")).sid


async def test_two_stores_stand_side_by_side_each_with_its_key_and_cookie() -> None:
    async def both(scope: Any, receive: Any, send: Any) -> None:
        first = await get_session(scope)
        second = await get_session(scope, scope_key="admin")
        assert scope["admin"] is second
        first["n"], second["m"] = 1, 2
        if scope["path"] == "/logout":
            await second.destroy()
        await answer(send)

    shop = SessionStore()
    admin = SessionStore(SessionConfig(extractor=from_cookie("__Host-admin"), cookie_same_site="strict"))
    app = SessionMiddleware(SessionMiddleware(both, admin, scope_key="admin"), shop)
    wire = await ask(app)
    lines = {line.partition("=")[0]: line for line in wire.all("set-cookie")}
    assert set(lines) == {"__Host-session_id", "__Host-admin"}
    assert "SameSite=Strict" in lines["__Host-admin"]
    assert wire.all("vary") == ["Cookie"]
    assert wire.all("cache-control") == ["no-store"]
    sids = {name: line.partition("=")[2].partition(";")[0] for name, line in lines.items()}
    assert dict(await shop.get_by_id(sids["__Host-session_id"])) == {"n": 1}
    assert dict(await admin.get_by_id(sids["__Host-admin"])) == {"m": 2}
    cookie = "; ".join(f"{name}={sid}" for name, sid in sids.items()).encode()
    wire = await ask(app, "/logout", headers=[(b"cookie", cookie)])
    assert [line.partition(";")[0] for line in wire.all("set-cookie")] == ["__Host-admin="]
    assert await shop.delete(sids["__Host-session_id"])


class Pass(BaseHTTPMiddleware):
    """A middleware of the framework's own kind."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-passed"] = "1"
        return response


async def _page(request: Request) -> Response:
    request.session["n"] = request.session.get("n", 0) + 1
    return PlainTextResponse("ok")


def _wrapped(store: SessionStore, outermost: str) -> Any:
    routes = Starlette(routes=[Route("/page", _page)])
    return Pass(SessionMiddleware(routes, store)) if outermost == "theirs" else SessionMiddleware(Pass(routes), store)


@pytest.mark.parametrize("outermost", ["ours", "theirs"])
async def test_a_framework_middleware_around_or_inside_changes_nothing(outermost: str) -> None:
    store = SessionStore()
    app = _wrapped(store, outermost)
    wire = await ask(app, "/page")
    assert wire.sid
    assert wire.all("x-passed") == ["1"]
    await ask(app, "/page", wire.sid)
    assert (await store.get_by_id(wire.sid))["n"] == 2


@pytest.mark.parametrize("outermost", ["ours", "theirs"])
async def test_an_error_is_answered_with_a_framework_middleware_around_or_inside(outermost: str) -> None:
    site = Site()
    site.storage.fail("create")
    wire = await ask(_wrapped(site.store, outermost), "/page")
    assert (wire.status, wire.sid) == (503, None)


# -- lazy, and no session at all


async def test_lazy_loads_when_asked_and_refuses_to_be_used_before() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/unasked":
            await answer(send)
            return
        if scope["path"] == "/too-soon":
            scope["session"].get("n")
        session = await get_session(scope)
        assert session is scope["session"]
        session["n"] += 1
        await answer(send)

    site = Site()
    sid = await site.make(n=1)
    lazy = SessionMiddleware(app, site.store, lazy=True)
    await ask(lazy, "/unasked", sid)
    assert site.storage.calls == []
    await ask(lazy, "/", sid)
    assert site.storage.calls == ["load", "replace"]
    assert await site.data(sid) == {"n": 2}
    assert (await ask(lazy, "/too-soon", sid)).status == 500


async def test_without_a_middleware_the_error_says_how_to_add_one() -> None:
    with pytest.raises(SessionNotLoaded, match=r"add_middleware\(SessionMiddleware.*add it last"):
        await get_session(http_scope())
    with pytest.raises(SessionNotLoaded, match="scope_key='admin'"):
        await get_session(Request(http_scope()), scope_key="admin")


async def test_a_skipped_request_has_no_session() -> None:
    async def handler(session: Session, send: Any) -> None:
        session.get("n")

    def skip(view: RequestView) -> bool:
        return view.path == "/health"

    site = Site(handler, skip=skip)
    wire = await ask(site.app, "/health", await site.make())
    assert wire.status == 500
    assert site.storage.calls == []


async def test_a_scope_of_another_type_passes_through() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope, wire = {"type": "mqtt"}, Wire([])
    receive, send = wire.receive, wire.send
    await SessionMiddleware(app, SessionStore())(scope, receive, send)
    assert seen == [(scope, receive, send)]
    assert scope == {"type": "mqtt"}


async def test_a_view_of_a_scope_without_optional_keys_works() -> None:
    site = Site(count, extractor=from_param("id"))
    sid = await site.make(n=1)
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": [], "path_params": {"id": sid}}
    wire = Wire([])
    await site.app(scope, wire.receive, wire.send)
    assert await site.data(sid) == {"n": 2}
    bare: dict[str, Any] = {"type": "http", "path": "/", "headers": []}
    await site.app(bare, wire.receive, wire.send)
    assert len(site.storage.inner) == 2


# -- garbage


@pytest.mark.parametrize("work", ["untouched", "read", "count", "login", "regenerate"])
async def test_requests_leave_nothing_for_the_garbage_collector(work: str) -> None:
    async def handler(session: Session, send: Any) -> None:
        if work == "read":
            session.get("n")
        elif work == "count":
            session["n"] = session.get("n", 0) + 1
        elif work == "login":
            await session.login("grace")
        elif work == "regenerate":
            await session.regenerate()
        await answer(send)

    site = Site(handler)
    # Known visitors and strangers, whose first write it is; the first fifty fill the caches.
    visitors = [await site.make(n=0) if number % 3 else None for number in range(250)]
    wires = [(http_scope(sid=sid), Wire([{"type": "http.request"}])) for sid in visitors]

    async def serve(some: slice) -> None:
        for scope, wire in wires[some]:
            await site.app(scope, wire.receive, wire.send)

    await serve(slice(50))
    gc.collect()
    gc.disable()
    try:
        await serve(slice(50, None))
        wires.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_cookies_of_the_application_keep_their_order() -> None:
    own = [(b"set-cookie", b"a=1"), (b"x", b"y"), (b"set-cookie", b"b=2")]

    async def handler(session: Session, send: Any) -> None:
        session["n"] = 1
        await answer(send, {**START, "headers": own}, BODY)

    wire = await run_http(Site(handler).app, http_scope())
    assert [line.partition(";")[0] for line in wire.all("set-cookie")][:2] == ["a=1", "b=2"]
    assert len(wire.all("set-cookie")) == 3
