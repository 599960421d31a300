"""aiohttp: sub-applications, the framework's own responses, forms, clones of a request."""

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from weakref import ref

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler
from tests.adapters.aiohttp_kit import application, count, prepared, proxied, route, touch, with_middleware_alone
from tests.adapters.conftest import Visit
from tests.adapters.open_kit import ReportingStorage
from tests.stores import SpyStorage, without_checks

from sessioncore import SessionConfig, SessionReleased, SessionStore, StorageUnavailable, from_form, from_header
from sessioncore_aiohttp import get_session, session_middleware, setup


def test_sub_applications_share_the_session(store: SessionStore, storage: SpyStorage, visit: Visit) -> None:
    for repeated in (False, True):
        app, inner = application(store, count), route(web.Application(), count)
        if repeated:  # a second setup has no effect
            setup(app, store)
            setup(inner, store)
            assert len(app.middlewares) == 1
        app.add_subapp("/inner", inner)
        browser = visit(app)
        first = browser.get("/inner/count")
        assert (first.text, len(first.set_cookies), first.one("vary")) == ("1", 1, "Cookie")
        assert [browser.get(path).text for path in ("/count", "/inner/count")] == ["2", "3"]
    made = [call for call in without_checks(storage.calls) if call != "open"]
    assert made == ["create", "load", "replace", "load", "replace"] * 2


def test_setup_on_a_sub_application_leaves_the_others_alone(store: SessionStore, visit: Visit) -> None:
    app = route(web.Application(), count)
    app.add_subapp("/inner", application(store, count))
    browser = visit(app)
    assert browser.get("/count").status == 500
    assert browser.get("/inner/count").text == "1"


def test_a_middleware_around_a_sub_application_keeps_its_own_session(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def after(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        session = await get_session(request)  # the sub-application's is released by now
        session["after"] = session.get("after", 0) + 1
        response.headers["X-After"] = str(session["after"])
        return response

    app = application(store, inside=[after])
    app.add_subapp("/inner", application(SessionStore(SessionConfig.development()), count))
    browser = visit(app)
    replies = [browser.get("/inner/count") for _ in range(2)]
    assert [(reply.text, reply.one("x-after")) for reply in replies] == [("1", "1"), ("2", "2")]
    assert set(browser.cookies) == {"__Host-session_id", "session_id"}


def test_only_the_store_that_was_asked_for_its_session_answers(store: SessionStore, visit: Visit) -> None:
    async def admin(request: web.Request) -> web.Response:
        (await get_session(request, scope_key="admin"))["n"] = 1
        return web.Response()

    app = application(store, count, admin)
    other = SessionConfig.development(extractor=from_header("X-Admin"), key_prefix="admin:")
    setup(app, SessionStore(other), scope_key="admin")
    browser = visit(app)
    first, second = browser.get("/count"), browser.get("/admin")
    assert (len(first.set_cookies), first.one("vary"), first.one("x-admin")) == (1, "Cookie", None)
    assert (second.set_cookies, second.one("vary"), len(second.one("x-admin") or "")) == ([], "X-Admin", 43)


@pytest.mark.parametrize("alone", [False, True], ids=["setup", "middleware alone"])
def test_static_files_and_404s_carry_what_a_middleware_did(
    alone: bool, store: SessionStore, visit: Visit, tmp_path: Path
) -> None:
    (tmp_path / "page.txt").write_text("plain")
    (tmp_path / "page.txt.gz").write_bytes(gzip.compress(b"packed"))
    ours = session_middleware(store)
    app = web.Application(middlewares=[ours, touch]) if alone else application(store, inside=[touch])
    app.router.add_static("/static", tmp_path)
    browser = visit(app)
    plain = browser.get("/static/page.txt")
    assert (plain.body, len(plain.set_cookies), plain.one("cache-control")) == (b"plain", 1, "no-store")
    packed = browser.get("/static/page.txt", [("Accept-Encoding", "gzip")])
    assert (gzip.decompress(packed.body), packed.one("vary")) == (b"packed", "Accept-Encoding, Cookie")
    cached = browser.get("/static/page.txt", [("If-None-Match", plain.one("etag") or "")])
    assert (cached.status, cached.one("vary"), cached.set_cookies) == (304, "Cookie", [])
    missing = browser.another().get("/nowhere")  # the router's own 404
    assert (missing.status, len(missing.set_cookies)) == (404, 1)


@pytest.mark.filterwarnings("ignore:returning HTTPException:DeprecationWarning")  # aiohttp 3 still serves them
def test_a_response_that_an_outer_middleware_puts_in_its_place_has_a_cookie(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.Response:
        try:
            await handler(request)
        except web.HTTPException as exc:
            return web.Response(text="a nicer page", status=exc.status)
        except LookupError:
            return web.Response(text="an apology", status=500)
        return web.Response(text="another page")

    async def missing(request: web.Request) -> web.StreamResponse:
        await count(request)
        raise web.HTTPNotFound

    async def returned(request: web.Request) -> web.StreamResponse:
        return web.HTTPNotFound(text=(await count(request)).text)

    async def data(request: web.Request) -> web.StreamResponse:
        return {"n": (await count(request)).text}  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # `errors` makes the response

    async def broken(request: web.Request) -> web.StreamResponse:
        await count(request)
        raise LookupError

    browser = visit(application(store, count, missing, returned, data, broken, outside=[errors]))
    for path, status in (("/count", 200), ("/missing", 404), ("/returned", 200), ("/data", 200)):
        reply = browser.another().get(path)
        assert (reply.status, reply.one("vary"), len(reply.set_cookies)) == (status, "Cookie", 1)
    reply = browser.get("/broken")
    assert (reply.status, reply.one("vary"), reply.set_cookies) == (500, "Cookie", [])


async def meddle(request: web.Request) -> web.Response:
    """Set cookies by the framework's method, one of them with the name of the session's cookie."""
    response = await count(request)
    response.set_cookie("__Host-session_id", "mine", secure=True)
    response.set_cookie("theme", "dark")
    return response


def test_set_cookie_of_the_framework_cannot_set_the_session_cookie(store: SessionStore, visit: Visit) -> None:
    for app in (application(store, meddle), with_middleware_alone(store, meddle)):
        browser = visit(app)
        assert [browser.get("/meddle").text for _ in range(2)] == ["1", "2"]
        assert browser.cookies["theme"] == "dark"


def test_the_headers_of_the_application_keep_their_spelling(store: SessionStore, visit: Visit) -> None:
    async def page(request: web.Request) -> web.Response:
        response = await count(request)
        response.headers.update({"X-Own": "\xe9", "Vary": "Accept", "Cache-Control": "max-age=60"})
        return response

    browser = visit(application(store, page))
    assert len(browser.get("/page").set_cookies) == 1
    names = [name for name, _ in browser.get("/page").headers]
    assert {"X-Own", "Vary", "Cache-Control", "Content-Length"} <= set(names)


def test_a_handler_without_a_response_stores_nothing(store: SessionStore, storage: SpyStorage, visit: Visit) -> None:
    async def forgetful(request: web.Request) -> None:
        await count(request)
        if request.query_string:
            await (await get_session(request)).save()

    browser = visit(application(store, forgetful))  # type: ignore[arg-type]  # that is the point
    for path, sessions in (("/forgetful", 0), ("/forgetful?save", 1)):
        reply = browser.get(path)
        assert (reply.status, len(reply.set_cookies), len(storage.inner)) == (500, sessions, sessions)


def test_a_body_generated_after_the_handler_finds_the_session_released(store: SessionStore, visit: Visit) -> None:
    async def generated(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["n"] = 1

        async def body() -> AsyncIterator[bytes]:
            with pytest.raises(SessionReleased):
                session["late"] = True
            yield b"done"

        return web.Response(body=body())

    reply = visit(application(store, generated)).get("/generated")
    assert (reply.body, len(reply.set_cookies)) == (b"done", 1)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "revoked"), [("text/event-stream", True), ("text/event-stream", False), ("", True)])
async def test_only_an_event_stream_ends_with_its_session_if_a_generator_makes_the_body_and_only_until_its_end(
    kind: str, revoked: bool
) -> None:
    seen: list[ref[web.Request]] = []
    connections: list[object] = []
    go_on = asyncio.Event()

    async def generated(request: web.Request) -> web.Response:
        seen.append(ref(request))
        connections.append(request.transport)
        (await get_session(request)).get("n")

        async def body() -> AsyncIterator[bytes]:
            yield b"one\n"
            await go_on.wait()
            yield b"two\n"

        return web.Response(body=body(), content_type=kind or "text/plain")

    store = SessionStore(SessionConfig.development(storage=ReportingStorage()))
    ends = bool(kind) and revoked
    async with TestClient(TestServer(application(store, generated))) as client:
        known = {"Cookie": f"session_id={(await store.create(owner='ada')).id}"}
        async with client.get("/generated", headers=known) as reply:
            assert await reply.content.readline() == b"one\n"
            if revoked:
                await store.revoke_all("ada")
            if not ends:
                go_on.set()
            assert await reply.content.read() == (b"" if ends else b"two\n")
        go_on.set()
        if not ends:
            await store.revoke_all("ada")
            assert await (await client.get("/generated")).read() == b"one\ntwo\n"
            assert connections[0] is connections[1]
    gc.collect()
    assert seen[0]() is None


def test_the_handler_may_read_a_form_first_and_one_larger_than_the_application_takes(visit: Visit) -> None:
    store = SessionStore(SessionConfig(extractor=from_form("sid")))

    async def late(request: web.Request) -> web.Response:
        form = await request.post()
        return web.json_response([form.get("name"), (await get_session(request)).get("n")])

    async def make(_: web.Request) -> web.Response:
        return web.Response(text=(await store.create({"n": 7})).id)

    async def upload(request: web.Request) -> web.Response:
        session = await get_session(request)
        return web.Response(text=f"{session.fresh} {len(await request.content.read())}")

    app = web.Application(client_max_size=1000)
    setup(app, store)
    browser = visit(route(app, late, make, upload))
    assert browser.post("/late", f"sid={browser.get('/make').text}&name=ada".encode()).text == '["ada", 7]'
    assert browser.post("/upload", b"a=" + b"x" * 50_000).text == "True 50002"


def test_an_outage_that_a_handler_hides_is_a_503_even_if_it_used_no_session(store: SessionStore, visit: Visit) -> None:
    async def hide(_: web.Request) -> web.Response:
        raise web.HTTPInternalServerError from StorageUnavailable("what store.revoke_all() raises, for example")

    assert visit(application(store, hide)).get("/hide").status == 503


def test_a_clone_of_a_request_has_its_session_and_cookie(store: SessionStore, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("a page")

    async def returned(request: web.Request) -> web.StreamResponse:
        assert await get_session(request.clone(headers={})) is await get_session(request)
        return await count(request)

    async def raised(request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound(text=(await count(request)).text)

    async def file(request: web.Request) -> web.StreamResponse:
        await count(request)
        return web.FileResponse(tmp_path / "page.txt")

    async def unused(_: web.Request) -> web.StreamResponse:
        return web.Response(text="plain")

    pages = (returned, raised, prepared, file)
    address = visit(application(store, *pages, count, unused, outside=[proxied]))
    for page in pages:
        browser = address.another()
        first = browser.get(f"/{page.__name__}")
        assert (len(first.set_cookies), first.one("vary")) == (1, "Cookie"), page
        assert browser.get("/count").text == "2", page
        assert browser.get("/returned").text == "3", page  # the middleware had a request with cookies
    reply = address.get("/unused")
    assert (reply.text, reply.one("vary"), reply.set_cookies) == ("plain", None, [])
