"""The shop: its store of sessions, and one function for each thing a visitor can do.

Look for `session.` to see all that the library is asked to do here.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sessioncore import (
    RequestView,
    Session,
    SessionConfig,
    SessionEvent,
    SessionStore,
    SQLiteStorage,
    StorageUnavailable,
)
from sessioncore_asgi import SessionMiddleware, get_session

from .auth import USERS, device_of, find_user, sign_in
from .pages import HERE, Form, Note, form, leave_note, message, page, redirect
from .shop import CART, CATALOGUE, Cart, Line, Product
from .staff import STAFF_ROUTES

__all__ = ["build"]


def build(database: Path, **changes: Any) -> Starlette:
    """Return the application; its sessions live in the file `database`. `changes` are to the configuration."""
    events: deque[SessionEvent] = deque(maxlen=200)
    config = SessionConfig.development(  # plain http; on the web: SessionConfig(...), which insists on https
        storage=SQLiteStorage(database),
        cookie_session_only=True,  # the browser forgets it when it closes, unless `login` remembers the visitor
        skip=_is_static,
        on_event=events.appendleft,
        **changes,
    )
    store = SessionStore(config)
    for kind in (Cart, Line, Note):  # named, so that the classes may move to another module
        store.register_type(kind, name=kind.__name__)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_sweep, store)
            yield
            tasks.cancel_scope.cancel()

    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(SessionMiddleware, store=store)],
        exception_handlers={404: missing},
        lifespan=lifespan,
    )
    app.state.events = events
    return app


def _is_static(request: RequestView) -> bool:
    """Return whether a request needs no session: style sheets need none, so they make no storage call."""
    return request.path.startswith("/static/")


async def _sweep(store: SessionStore) -> None:
    """Remove expired records; they cannot be loaded any more, but take up room."""
    while True:
        with suppress(StorageUnavailable):  # if the database is busy, the purge of the next hour removes them
            await store.purge_expired()
        await anyio.sleep(3600)


# -- the shop: no account needed


async def catalogue(request: Request) -> Response:
    """Show what there is. Nothing is stored for visitors who only look."""
    return await page(request, "catalogue.html", products=CATALOGUE.values())


async def show_cart(request: Request) -> Response:
    """Show the cart."""
    return await page(request, "cart.html", products=CATALOGUE)


@form
async def add(_: Request, session: Session, fields: Form) -> Response:
    """Put one piece into the cart; a visitor without a session gets one here."""
    product = _product(fields)
    session.mutate(CART, lambda cart: cart.change(product, +1))
    note = leave_note(session, f"{product.name} is in your cart.")
    return redirect("/", note, product.sku)


@form
async def change(_: Request, session: Session, fields: Form) -> Response:
    """One more or one fewer: a step, not a number, so that two tabs add up."""
    product, step = _product(fields), +1 if fields.get("step") == "more" else -1
    session.mutate(CART, lambda cart: cart.change(product, step))
    return redirect("/cart")


@form
async def remove(_: Request, session: Session, fields: Form) -> Response:
    """Take a product out of the cart."""
    product = _product(fields)
    session.mutate(CART, lambda cart: cart.without(product))
    return redirect("/cart")


def _product(fields: Form) -> Product:
    product = CATALOGUE.get(fields.get("sku", ""))
    if product is None:
        raise HTTPException(404)
    return product


# -- signing in and out


async def show_login(request: Request) -> Response:
    """Ask who is there."""
    return await page(request, "login.html", users=USERS.values())


@form
async def login(request: Request, session: Session, fields: Form) -> Response:
    """Sign in, and keep the visitor's cart."""
    name, remember = fields.get("name", ""), "remember" in fields
    user = find_user(name, fields.get("password", ""))
    if user is None:
        return await page(request, "login.html", 401, users=USERS.values(), wrong=True, name=name, remember=remember)
    before = None if session.fresh else session.handle
    await sign_in(session, user.id, device_of(request.headers.get("user-agent", "")), remember=remember)
    note = leave_note(session, f"Welcome, {user.name}.", moved_from=before)
    return redirect("/cart" if session[CART].lines else "/devices", note)


@form
async def logout(_: Request, session: Session, __: Form) -> Response:
    """Sign out: when this returns, the session is gone for every process and every copy of the cookie."""
    await session.destroy()
    return redirect("/goodbye")


async def goodbye(request: Request) -> Response:
    """Confirm the sign-out, without starting a new session for that."""
    return await message(request, 200, "You are signed out", "Your session has ended. See you soon.")


# -- the user's devices


async def devices(request: Request) -> Response:
    """List the sessions of the user by their handles, which give no access to a session."""
    session = await get_session(request)
    if session.owner is None:
        return redirect("/login")
    return await page(request, "devices.html", sessions=await session.store.sessions_of(session.owner))


async def device_changes(request: Request) -> Response:
    """Tell the page above when another device signs in or out. The stream is closed when the session ends."""
    session = await get_session(request)
    if session.owner is None:
        return Response(status_code=204)  # a browser that was signed out asks again, and stops at this
    if "text/event-stream" not in request.headers.get("accept", ""):
        return PlainTextResponse("An event stream, for scripts", 406)
    return StreamingResponse(_changes(session.store, session.owner, session.handle), media_type="text/event-stream")


async def _changes(store: SessionStore, owner: str, own: str) -> AsyncGenerator[str]:
    yield "retry: 500\n\n"
    known = None
    while True:
        with suppress(StorageUnavailable):
            others = {info.handle for info in await store.sessions_of(owner)} - {own}
            if known is not None and others != known:
                yield "data: changed\n\n"
            known = others
        await anyio.sleep(1)


@form
async def sign_out_one(_: Request, session: Session, fields: Form) -> Response:
    """End one session, if it is the user's own."""
    if session.owner is None:
        return redirect("/login")
    ended = await session.store.revoke(fields.get("handle", ""), owner=session.owner)
    return redirect("/devices", leave_note(session, "That device is signed out.") if ended else "")


@form
async def sign_out_others(_: Request, session: Session, __: Form) -> Response:
    """End all sessions of the user but this one."""
    if session.owner is None:
        return redirect("/login")
    count = await session.store.revoke_all(session.owner, keep=session)
    return redirect("/devices", leave_note(session, f"Other devices signed out: {count}."))


# -- for the staff


async def events(request: Request) -> Response:
    """Show the events. A real shop sends them to its logs, and does not show them to visitors."""
    return await page(request, "events.html", events=list(request.app.state.events))


async def missing(request: Request, _: Exception) -> Response:
    """Show a page for unknown addresses."""
    if request.url.path.startswith("/static/"):
        return PlainTextResponse("Not found", 404)  # skipped, see `build`: there is no session to make a page with
    return await message(request, 404, "Nothing here", "This shelf is empty.")


ROUTES = [
    Route("/", catalogue),
    Route("/cart", show_cart),
    Route("/cart/add", add, methods=["POST"]),
    Route("/cart/change", change, methods=["POST"]),
    Route("/cart/remove", remove, methods=["POST"]),
    Route("/login", show_login),
    Route("/login", login, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/goodbye", goodbye),
    Route("/devices", devices),
    Route("/devices/changes", device_changes),
    Route("/devices/sign-out", sign_out_one, methods=["POST"]),
    Route("/devices/sign-out-others", sign_out_others, methods=["POST"]),
    Route("/events", events),
    *STAFF_ROUTES,
    Mount("/static", StaticFiles(directory=HERE / "static")),
]
