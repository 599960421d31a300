"""The pages of the scenario applications, written once for every framework.

A page gets a `PageRequest` and returns a `PageResponse`. An application (apps_asgi,
apps_aiohttp, apps_litestar) translates both, and serves every page of `PAGES` at
`/<name>`, `share` at `/share/{id}` also, and the WebSocket `talk` at `/ws`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
from msgspec import json
from tests.adapters import stream_pages
from tests.adapters.page import Boom, PageRequest, PageResponse

from sessioncore import Session, SessionError

__all__ = ["FILE", "PAGES", "USES", "use", "use_as"]

FILE = Path(__file__)  # what `/file` answers


async def peek(request: PageRequest) -> PageResponse:
    return PageResponse(b"nothing to see")


async def counter(request: PageRequest) -> PageResponse:
    session = await request.session()
    session["n"] = session.get("n", 0) + 1
    return PageResponse(str(session["n"]).encode())


async def mutate(request: PageRequest) -> PageResponse:
    session = await request.session()
    return PageResponse(str(session.mutate("n", lambda n: n + 1, 0)).encode())


async def append(request: PageRequest) -> PageResponse:
    session = await request.session()
    session.setdefault("cart", [])
    session["cart"].append(request.query("item"))
    return PageResponse(json.encode(session["cart"]))


async def read(request: PageRequest) -> PageResponse:
    """Everything that is stored, as JSON."""
    return PageResponse(json.encode(dict(await request.session())))


async def set_(request: PageRequest) -> PageResponse:
    session = await request.session()
    session[request.query("k") or "k"] = request.query("v")
    return PageResponse(b"ok")


async def who(request: PageRequest) -> PageResponse:
    session = await request.session()
    return PageResponse(json.encode({"owner": session.owner, "fresh": session.fresh, "handle": session.handle}))


async def login(request: PageRequest) -> PageResponse:
    session = await request.session()
    await session.login(request.query("owner") or "ada", device="browser")
    if request.query("remember"):
        remember(session)
    return PageResponse(b"welcome")


def remember(session: Session) -> None:
    session.set_persistent(True)
    session.set_absolute_timeout(timedelta(days=30))
    session.set_idle_timeout(timedelta(days=30))


async def redirect_login(request: PageRequest) -> PageResponse:
    await login(request)
    return PageResponse(status=302, headers=[("Location", "/read")], raised=True)


async def logout(request: PageRequest) -> PageResponse:
    await (await request.session()).reset()
    return PageResponse(b"bye")


async def destroy(request: PageRequest) -> PageResponse:
    session = await request.session()
    await session.destroy()
    if request.query("v"):
        session["v"] = request.query("v")
    return PageResponse(b"destroyed")


async def regenerate(request: PageRequest) -> PageResponse:
    session = await request.session()
    for _ in range(int(request.query("times") or 1)):
        await session.regenerate()
    return PageResponse(b"ok")


async def boom(request: PageRequest) -> PageResponse:
    """An exception after the session was used as `?how=` says."""
    await use(request)
    raise Boom("the application has a bug")


async def status(request: PageRequest) -> PageResponse:
    """Answer `?code=` after the session was used as `?how=` says; `?raised=1` by an exception."""
    await use(request)
    code = int(request.query("code") or 200)
    body = b"" if code in {204, 304} else b"as you asked"
    return PageResponse(body, code, [("ETag", '"v1"')] if code == 304 else [], raised=bool(request.query("raised")))


USES: Mapping[str, Callable[[Session], Any]] = {
    "write": lambda session: session.set("n", session.get("n", 0) + 1),
    "unstorable": lambda session: session.set("x", object()),
    "login": lambda session: session.login("ada"),
    "regenerate": lambda session: session.regenerate(),
    "reset": lambda session: session.reset(),
    "destroy": lambda session: session.destroy(),
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "read": lambda session: session.get("n"),
    "get": lambda session: session.get("n"),
    "in": lambda session: "n" in session,
    "len": len,
    "iter": list,
    "keys": lambda session: list(session.keys()),
    "id": lambda session: session.id,
    "handle": lambda session: session.handle,
    "owner": lambda session: session.owner,
    "truth": bool,
    "fresh": lambda session: session.fresh,
    "mark": lambda session: session.mark_accessed(),
    "remember": remember,
    "forget": lambda session: session.set_persistent(False),
    "modified": lambda session: session.modified,
    "accessed": lambda session: session.accessed,
}


async def use(request: PageRequest) -> None:
    """Use the session as `?how=` says."""
    how = request.query("how") or "write"
    if how != "none":
        await use_as(await request.session(), how)


async def use_as(session: Session, how: str) -> None:
    result = USES[how](session)
    if inspect.isawaitable(result):
        await result


async def hidden(request: PageRequest) -> PageResponse:
    """A storage failure that the application hides behind an error of its own, or `?how=answer`: behind a 500."""
    try:
        session = await request.session()
        session["n"] = session.get("n", 0) + 1
        await session.save()
    except SessionError as exc:
        if request.query("how") == "answer":
            return PageResponse(b"something went wrong", 500)
        raise Boom("something went wrong") from exc
    return PageResponse(b"ok")


_HEADERS: Mapping[str, list[tuple[str, str]]] = {
    "public": [("Cache-Control", "public, max-age=60")],
    "private": [("Cache-Control", "private, max-age=60")],
    "cdn": [("CDN-Cache-Control", "max-age=60")],
    "accept": [("vary", "accept-encoding")],
    "cookie": [("Vary", "cookie")],
    "star": [("Vary", "*")],
    "two": [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")],
    "clash": [("Set-Cookie", "__Host-session_id=mine; Secure; Path=/"), ("Set-Cookie", "b=2; Path=/")],
}


async def vary(request: PageRequest) -> PageResponse:
    """The application's own headers of `?case=`, after the session was used as `?how=` says."""
    await use(request)
    return PageResponse(b"varied", headers=list(_HEADERS[request.query("case") or "public"]))


async def save(request: PageRequest) -> PageResponse:
    session = await request.session()
    session["n"] = session.get("n", 0) + 1
    await session.save()
    return PageResponse(b"saved")


async def reload(request: PageRequest) -> PageResponse:
    """What this request and another one change, as JSON."""
    session = await request.session()
    session.mutate("n", lambda n: n + 1, 0)
    async with session.store.open(session.id) as other:
        other.update(n=10, theirs=True)
    await session.reload()
    return PageResponse(json.encode(dict(session)))


async def background(request: PageRequest) -> PageResponse:
    await use(request)
    session = await request.session()

    async def work() -> None:
        session["later"] = True

    return PageResponse(b"ok", background=work)


async def regenerate_save_boom(request: PageRequest) -> PageResponse:
    """An application that fails after it has stored a new ID."""
    session = await request.session()
    session["n"] = session.get("n", 0) + 1
    await session.regenerate()
    await session.save()
    session["lost"] = True
    raise Boom("the application has a bug")


async def revoke(request: PageRequest) -> PageResponse:
    """A storage failure in a method of the store; `?wrapped=1`: the application hides it behind an error of its own."""
    session = await request.session()
    try:
        await session.store.revoke_all("ada")
    except SessionError as exc:
        if request.query("wrapped"):
            raise Boom("something went wrong") from exc
        raise
    return PageResponse(b"revoked")


async def file(request: PageRequest) -> PageResponse:
    session = await request.session()
    session["n"] = session.get("n", 0) + 1
    return PageResponse(file=FILE)


async def form(request: PageRequest) -> PageResponse:
    """The session's number and a form field, both out of one body."""
    session = await request.session()
    found = await request.field("name")
    return PageResponse(f"{session.get('n')} {found}".encode())


async def upload(request: PageRequest) -> PageResponse:
    """The length of the body, after the session was asked for."""
    session = await request.session()
    return PageResponse(f"{session.get('n')} {len(await request.body())}".encode())


async def both(request: PageRequest) -> PageResponse:
    """Two stores side by side."""
    first, second = await request.session(), await request.session("second")
    first["n"] = first.get("n", 0) + 1
    second["n"] = second.get("n", 0) + 10
    return PageResponse(f"{first['n']} {second['n']}".encode())


async def regenerate_both(request: PageRequest) -> PageResponse:
    for session in (await request.session(), await request.session("second")):
        await session.regenerate()
    return PageResponse(b"changed")


async def slow(request: PageRequest) -> PageResponse:
    """Several await points, before and after a write: a client may leave at each of them."""
    session = await request.session()
    await anyio.sleep(0.001)
    session["a"] = session.get("a", 0) + 1
    await anyio.sleep(0.001)
    session["b"] = session.get("b", 0) + 1
    if request.query("regenerate"):
        await session.regenerate()
    await anyio.sleep(0.001)
    return PageResponse(b"x" * 100_000)


PAGES: Mapping[str, Callable[[PageRequest], Awaitable[PageResponse]]] = {
    page.__name__.strip("_").replace("_", "-"): page
    for page in (
        peek, counter, mutate, append, read, set_, who, login, redirect_login, logout, destroy, regenerate, boom,
        status, hidden, vary, save, reload, background, regenerate_save_boom, revoke, file, form, upload, both,
        regenerate_both, slow, *stream_pages.PAGES,
    )
} | {"share": read}  # fmt: skip
