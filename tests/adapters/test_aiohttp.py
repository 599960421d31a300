"""What is peculiar to aiohttp: sub-applications, signals, responses prepared by hand, the middleware alone."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from tests.adapters.browser import ask, compose
from tests.adapters.conftest import Visit
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionReleased, SessionStore, from_form, from_header
from sessioncore_aiohttp import get_session, setup


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.Response(text=str(session["n"]))


@web.middleware
async def touch(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An application's own middleware that uses the session on every request."""
    session = await get_session(request)
    session["seen"] = session.get("seen", 0) + 1
    return await handler(request)


def test_sub_applications_share_the_session(store: SessionStore, visit: Visit) -> None:
    app, inner = web.Application(), web.Application()
    setup(app, store)
    for part in (app, inner):
        part.router.add_get("/count", count)
    app.add_subapp("/inner", inner)
    browser = visit(app)
    assert [browser.get(path).text for path in ("/count", "/inner/count", "/count")] == ["1", "2", "3"]


def test_setup_on_both_is_one_session_and_one_cookie(store: SessionStore, storage: SpyStorage, visit: Visit) -> None:
    app, inner = web.Application(), web.Application()
    setup(inner, store)
    setup(app, store)
    setup(app, store)  # again: no effect
    app.middlewares.append(touch)  # between the two
    inner.router.add_get("/count", count)
    app.add_subapp("/inner", inner)
    browser = visit(app)
    first = browser.get("/inner/count")
    assert (len(first.set_cookies), first.one("vary")) == (1, "Cookie")
    assert browser.get("/inner/count").text == "2"
    assert [call for call in storage.calls if call != "open"] == ["create", "load", "replace"]


def test_a_sub_application_can_have_a_store_of_its_own(store: SessionStore, visit: Visit) -> None:
    app, inner = web.Application(), web.Application()
    own = SessionStore(SessionConfig.development())
    setup(app, store)
    setup(inner, own)
    for part in (app, inner):
        part.router.add_get("/count", count)
    app.add_subapp("/inner", inner)
    browser = visit(app)
    assert [browser.get(path).text for path in ("/count", "/count", "/inner/count", "/count")] == ["1", "2", "1", "3"]
    assert set(browser.cookies) == {"__Host-session_id", "session_id"}


def test_setup_on_a_sub_application_leaves_the_others_alone(store: SessionStore, visit: Visit) -> None:
    app, inner = web.Application(), web.Application()
    setup(inner, store)
    for part in (app, inner):
        part.router.add_get("/count", count)
    app.add_subapp("/inner", inner)
    browser = visit(app)
    assert browser.get("/count").status == 500
    assert browser.get("/inner/count").text == "1"


def test_static_files_carry_what_a_middleware_did(store: SessionStore, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("plain")
    (tmp_path / "page.txt.gz").write_bytes(gzip.compress(b"packed"))
    app = web.Application()
    setup(app, store)
    app.middlewares.append(touch)
    app.router.add_static("/static", tmp_path)
    browser = visit(app)
    plain = browser.get("/static/page.txt")
    assert (plain.body, len(plain.set_cookies), plain.one("cache-control")) == (b"plain", 1, "no-store")
    packed = browser.get("/static/page.txt", [("Accept-Encoding", "gzip")])
    assert (gzip.decompress(packed.body), packed.one("vary")) == (b"packed", "Accept-Encoding, Cookie")
    cached = browser.get("/static/page.txt", [("If-None-Match", plain.one("etag") or "")])
    assert (cached.status, cached.one("vary"), cached.set_cookies) == (304, "Cookie", [])
    assert visit(app_with(store, touch)).get("/nowhere").status == 404


def app_with(store: SessionStore, *middlewares: Middleware) -> web.Application:
    """An application whose session a middleware uses, also on pages that do not exist."""
    app = web.Application(middlewares=[])
    setup(app, store)
    app.middlewares.extend(middlewares)
    app.router.add_get("/count", count)
    return app


def test_the_404_of_the_router_carries_what_a_middleware_did(store: SessionStore, visit: Visit) -> None:
    browser = visit(app_with(store, touch))
    reply = browser.get("/nowhere")
    assert (reply.status, len(reply.set_cookies)) == (404, 1)
    assert browser.request("POST", "/count").status == 405


def test_a_response_that_an_outer_middleware_puts_in_its_place_has_the_cookie(
    store: SessionStore, visit: Visit
) -> None:
    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.Response:
        try:
            await handler(request)
        except web.HTTPException as exc:
            return web.Response(text="a nicer page", status=exc.status)
        return web.Response(text="another page")

    async def missing(request: web.Request) -> web.Response:
        await count(request)
        raise web.HTTPNotFound

    app = web.Application(middlewares=[errors])
    setup(app, store)
    app.router.add_get("/count", count)
    app.router.add_get("/missing", missing)
    browser = visit(app)
    for path, status in (("/count", 200), ("/missing", 404)):
        reply = browser.get(path)
        assert (reply.status, reply.one("vary")) == (status, "Cookie")
    assert browser.cookies


def test_set_cookie_of_the_framework_cannot_set_the_session_cookie(store: SessionStore, visit: Visit) -> None:
    async def meddle(request: web.Request) -> web.Response:
        response = await count(request)
        response.set_cookie("__Host-session_id", "mine", secure=True)
        response.set_cookie("theme", "dark")
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", meddle)
    browser = visit(app)
    browser.get("/")
    assert browser.get("/").text == "2"
    assert browser.cookies["theme"] == "dark"


def test_a_handler_without_a_response_stores_nothing(store: SessionStore, storage: SpyStorage, visit: Visit) -> None:
    async def forgetful(request: web.Request) -> None:
        await count(request)

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", forgetful)  # type: ignore[arg-type]  # that is the point
    reply = visit(app).get("/")
    assert (reply.status, reply.set_cookies, len(storage.inner)) == (500, [], 0)


def test_a_body_that_is_generated_after_the_handler_finds_the_session_released(
    store: SessionStore, visit: Visit
) -> None:
    met: list[type[Exception]] = []

    async def generated(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["n"] = 1

        async def body() -> AsyncIterator[bytes]:
            try:
                session["late"] = True
            except SessionReleased as exc:
                met.append(type(exc))
            yield b"done"

        return web.Response(body=body())

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", generated)
    reply = visit(app).get("/")
    assert (reply.body, len(reply.set_cookies), met) == (b"done", 1, [SessionReleased])


def test_a_clone_of_the_request_has_the_same_session(store: SessionStore, visit: Visit) -> None:
    async def cloned(request: web.Request) -> web.Response:
        session = await get_session(request)
        return web.Response(text=str(session is await get_session(request.clone(method="POST"))))

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", cloned)
    assert visit(app).get("/").text == "True"


def test_a_form_larger_than_the_application_takes_is_its_own_matter(visit: Visit) -> None:
    async def upload(request: web.Request) -> web.Response:
        session = await get_session(request)
        return web.Response(text=f"{session.fresh} {len(await request.content.read())}")

    app = web.Application(client_max_size=1000)
    setup(app, SessionStore(SessionConfig(extractor=from_form("sid"))))
    app.router.add_post("/", upload)
    assert visit(app).post("/", b"a=" + b"x" * 50_000).text == "True 50002"


def test_a_form_that_the_handler_read_first_is_still_found(visit: Visit) -> None:
    store = SessionStore(SessionConfig(extractor=from_form("sid")))

    async def late(request: web.Request) -> web.Response:
        form = await request.post()
        session = await get_session(request)
        return web.json_response([form.get("name"), session.get("n")])

    async def make(_: web.Request) -> web.Response:
        session = await store.create({"n": 7})
        return web.Response(text=session.id)

    app = web.Application()
    setup(app, store)
    app.router.add_post("/", late)
    app.router.add_get("/make", make)
    browser = visit(app)
    sid = browser.get("/make").text
    assert browser.post("/", f"sid={sid}&name=ada".encode()).text == '["ada", 7]'


def test_a_middleware_around_a_sub_application_keeps_its_own_session(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def after(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        session = await get_session(request)  # the sub-application's is released by now
        session["after"] = session.get("after", 0) + 1
        response.headers["X-After"] = str(session["after"])
        return response

    app, inner = web.Application(), web.Application()
    setup(app, store)
    app.middlewares.append(after)
    setup(inner, SessionStore(SessionConfig.development()))
    inner.router.add_get("/count", count)
    app.add_subapp("/inner", inner)
    browser = visit(app)
    replies = [browser.get("/inner/count") for _ in range(2)]
    assert [(reply.text, reply.one("x-after")) for reply in replies] == [("1", "1"), ("2", "2")]
    assert set(browser.cookies) == {"__Host-session_id", "session_id"}


@pytest.mark.parametrize("shape", ["returned", "raised", "prepared", "file"])
def test_a_clone_that_a_middleware_hands_on_has_its_cookie(
    store: SessionStore, visit: Visit, tmp_path: Path, shape: str
) -> None:
    """As middlewares for proxies do: the server itself prepares the response with the request that it knows."""

    @web.middleware
    async def proxied(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(scheme="https", remote="192.0.2.1"))

    async def handle(request: web.Request) -> web.StreamResponse:
        response = await count(request)
        if shape == "file":
            (tmp_path / "page.txt").write_text(response.text or "")
            return web.FileResponse(tmp_path / "page.txt")
        if shape == "raised":
            raise web.HTTPNotFound(text=response.text)
        if shape == "prepared":
            await response.prepare(request)
        return response

    app = web.Application(middlewares=[proxied])
    setup(app, store)
    app.router.add_get("/", handle)
    browser = visit(app)
    first = browser.get("/")
    assert (len(first.set_cookies), first.one("vary")) == (1, "Cookie")
    assert browser.get("/").text == "2"


def test_a_handler_that_fails_behind_a_clone_has_its_cookie_in_the_500(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def proxied(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(scheme="https"))

    async def fail(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["n"] = 7
        await session.regenerate()
        await session.save()
        raise ZeroDivisionError

    app = web.Application(middlewares=[proxied])
    setup(app, store)
    app.router.add_get("/fail", fail)
    app.router.add_get("/count", count)
    browser = visit(app)
    for _ in range(2):  # a new session, and one that has moved
        failed = browser.get("/fail")
        assert (failed.status, len(failed.set_cookies), failed.one("vary")) == (500, 1, "Cookie")
    assert browser.get("/count").text == "8"


@pytest.mark.filterwarnings("ignore:returning HTTPException:DeprecationWarning")  # aiohttp 3 still serves them
def test_an_http_exception_that_is_returned_is_a_response(store: SessionStore, visit: Visit) -> None:
    async def missing(request: web.Request) -> web.StreamResponse:
        response = await count(request)
        return web.HTTPNotFound(text=response.text)

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", missing)
    browser = visit(app)
    first = browser.get("/")
    assert (first.status, len(first.set_cookies), first.one("vary")) == (404, 1, "Cookie")
    assert browser.get("/").text == "2"


def test_only_the_store_that_was_asked_for_its_session_answers(store: SessionStore, visit: Visit) -> None:
    other = SessionStore(SessionConfig.development(extractor=from_header("X-Admin"), key_prefix="admin:"))

    async def admin(request: web.Request) -> web.Response:
        session = await get_session(request, scope_key="admin")
        session["n"] = 1
        return web.Response()

    app = app_with(store)
    setup(app, other, scope_key="admin")
    app.router.add_get("/admin", admin)
    browser = visit(app)
    first, second = browser.get("/count"), browser.get("/admin")
    assert (len(first.set_cookies), first.one("vary"), first.one("x-admin")) == (1, "Cookie", None)
    assert (second.set_cookies, second.one("vary"), len(second.one("x-admin") or "")) == ([], "X-Admin", 43)


def test_strangers_to_a_clone_get_no_headers(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def proxied(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(scheme="https"))

    async def plain(_: web.Request) -> web.Response:
        return web.Response(text="plain")

    app = web.Application(middlewares=[proxied])
    setup(app, store)
    app.router.add_get("/", plain)
    reply = visit(app).get("/")
    assert (reply.text, reply.one("vary"), reply.set_cookies) == ("plain", None, [])


def test_a_cookie_in_any_spelling_of_the_header_is_found(store: SessionStore, visit: Visit) -> None:
    app = app_with(store)
    browser = visit(app)
    browser.get("/count")
    cookie = browser.cookie_header().encode()
    for number, name in enumerate(("cookie", "COOKIE", "Cookie")):
        reply = ask(browser.address, compose("GET", "/count", [(name, b"a=\xe9\xff; " + cookie)]))
        assert reply.text == str(number + 2)


def test_an_id_that_stands_in_no_header_makes_no_vary(visit: Visit) -> None:
    async def look(request: web.Request) -> web.Response:
        return web.Response(text=str((await get_session(request)).get("n")))

    app = web.Application()
    setup(app, SessionStore(SessionConfig(extractor=from_form("sid"))))
    app.router.add_get("/", look)
    reply = visit(app).get("/")
    assert (reply.text, reply.one("vary")) == ("None", None)


def test_the_headers_of_the_application_keep_their_spelling(store: SessionStore, visit: Visit) -> None:
    async def page(request: web.Request) -> web.Response:
        response = await count(request)
        response.headers.update({"X-Own": "\xe9", "Vary": "Accept", "Cache-Control": "max-age=60"})
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", page)
    browser = visit(app)
    assert len(browser.get("/").set_cookies) == 1
    names = [name for name, _ in browser.get("/").headers]
    assert {"X-Own", "Vary", "Cache-Control", "Content-Length"} <= set(names)
