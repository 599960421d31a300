"""The pages of the scenario applications, written once for every framework.

A page sees the request as `Asked` and returns what to answer as `Said`. An
application (apps_asgi, apps_aiohttp, apps_litestar) translates both, and serves every
page of `PAGES` at `/<name>`, `share` at `/share/{id}` also, and `/ws`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import anyio
from msgspec import Struct, json

from sessioncore import ResponseStarted, Session, SessionError

__all__ = ["FILE", "PAGES", "Asked", "Boom", "Said", "talk"]

FILE = Path(__file__)  # what `/file` answers


class Boom(Exception):
    """A bug in the application."""


class Asked(Protocol):
    """What an application shows a page of the request."""

    async def session(self, scope_key: str = "session") -> Session:
        """The framework's own way to the session, of that store."""
        ...

    def query(self, name: str) -> str | None:
        """A query parameter, read by the framework."""
        ...

    async def body(self) -> bytes:
        """The body, read by the framework."""
        ...

    async def field(self, name: str) -> str | None:
        """A form field, read by the framework's own parser."""
        ...


class Said(Struct):
    """What a page answers; the application turns it into the framework's own kind of response."""

    body: bytes = b""
    status: int = 200
    headers: list[tuple[str, str]] = []
    chunks: AsyncIterator[bytes] | None = None  # streamed, after the headers have left
    raised: bool = False  # by the framework's own exception, where it has one for this status
    file: Path | None = None  # by the framework's own file response


async def peek(asked: Asked) -> Said:
    return Said(b"nothing to see")


async def counter(asked: Asked) -> Said:
    session = await asked.session()
    session["n"] = session.get("n", 0) + 1
    return Said(str(session["n"]).encode())


async def mutate(asked: Asked) -> Said:
    session = await asked.session()
    return Said(str(session.mutate("n", lambda n: n + 1, 0)).encode())


async def append(asked: Asked) -> Said:
    session = await asked.session()
    session.setdefault("cart", [])
    session["cart"].append(asked.query("item"))
    return Said(json.encode(session["cart"]))


async def read(asked: Asked) -> Said:
    """Everything that is stored, as JSON."""
    return Said(json.encode(dict(await asked.session())))


async def set_(asked: Asked) -> Said:
    session = await asked.session()
    session[asked.query("k") or "k"] = asked.query("v")
    return Said(b"ok")


async def who(asked: Asked) -> Said:
    session = await asked.session()
    return Said(json.encode({"owner": session.owner, "fresh": session.fresh, "handle": session.handle}))


async def identify(asked: Asked) -> Said:
    """The ID, as only a test would tell it."""
    return Said((await asked.session()).id.encode())


_ACCESSES: Mapping[str, Callable[[Session], Any]] = {
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
}


async def access(asked: Asked) -> Said:
    _ACCESSES[asked.query("how") or "get"](await asked.session())
    return Said(b"accessed")


async def login(asked: Asked) -> Said:
    session = await asked.session()
    await session.login(asked.query("owner") or "ada", device="browser")
    return Said(b"welcome")


async def redirect_login(asked: Asked) -> Said:
    await login(asked)
    return Said(status=302, headers=[("Location", "/read")], raised=True)


async def logout(asked: Asked) -> Said:
    await (await asked.session()).reset()
    return Said(b"bye")


async def destroy(asked: Asked) -> Said:
    session = await asked.session()
    await session.destroy()
    if asked.query("v"):
        session["v"] = asked.query("v")
    return Said(b"destroyed")


async def regenerate(asked: Asked) -> Said:
    session = await asked.session()
    for _ in range(int(asked.query("times") or 1)):
        await session.regenerate()
    return Said(b"ok")


async def boom(asked: Asked) -> Said:
    """An exception after the session was used as `?how=` says."""
    await _use(asked)
    raise Boom("the application has a bug")


async def status(asked: Asked) -> Said:
    """Answer `?code=` after the session was used as `?how=` says; `?raised=1` by an exception."""
    await _use(asked)
    code = int(asked.query("code") or 200)
    body = b"" if code in {204, 304} else b"as you asked"
    return Said(body, code, [("ETag", '"v1"')] if code == 304 else [], raised=bool(asked.query("raised")))


async def _use(asked: Asked) -> None:
    how = asked.query("how") or "write"
    if how == "none":
        return
    session = await asked.session()
    if how == "write":
        session["n"] = session.get("n", 0) + 1
    elif how == "read":
        session.get("n")
    elif how == "login":
        await session.login("ada")
    elif how == "regenerate":
        await session.regenerate()
    elif how == "destroy":
        await session.destroy()
    elif how == "unstorable":
        session["x"] = object()


async def hidden(asked: Asked) -> Said:
    """A storage failure that the application hides behind an error of its own, or `?how=answer`: behind a 500."""
    try:
        session = await asked.session()
        session["n"] = session.get("n", 0) + 1
        await session.save()
    except SessionError as exc:
        if asked.query("how") == "answer":
            return Said(b"something went wrong", 500)
        raise Boom("something went wrong") from exc
    return Said(b"ok")


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


async def vary(asked: Asked) -> Said:
    """The application's own headers of `?case=`, after the session was used as `?how=` says."""
    await _use(asked)
    return Said(b"varied", headers=list(_HEADERS[asked.query("case") or "public"]))


async def stream(asked: Asked) -> Said:
    """Write before the response and during it."""
    session = await asked.session()
    session["before"] = True

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            session["streamed"] = number
            yield b"chunk %d\n" % number

    return Said(chunks=chunks())


async def late_first_write(asked: Asked) -> Said:
    """Write to a session for the first time when the headers have left."""
    session = await asked.session()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"started: "
        for change in (lambda: session.set("late", True), session.regenerate, lambda: session.login("ada")):
            try:
                waits = change()
                if waits is not None:
                    await waits
                yield b"written "
            except ResponseStarted:
                yield b"refused "

    return Said(chunks=chunks())


async def late_destroy(asked: Asked) -> Said:
    session = await asked.session()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"started "
        await session.destroy()
        yield b"destroyed"

    return Said(chunks=chunks())


async def late_boom(asked: Asked) -> Said:
    """A stream that fails after it has written to the session."""
    session = await asked.session()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"started "
        session["late"] = True
        raise Boom("the application has a bug")

    return Said(chunks=chunks())


async def file(asked: Asked) -> Said:
    session = await asked.session()
    session["n"] = session.get("n", 0) + 1
    return Said(file=FILE)


async def form(asked: Asked) -> Said:
    """The session's number and a form field, both out of one body."""
    session = await asked.session()
    found = await asked.field("name")
    return Said(f"{session.get('n')} {found}".encode())


async def upload(asked: Asked) -> Said:
    """The length of the body, after the session was asked for."""
    session = await asked.session()
    return Said(f"{session.get('n')} {len(await asked.body())}".encode())


async def both(asked: Asked) -> Said:
    """Two stores side by side."""
    first, second = await asked.session(), await asked.session("second")
    first["n"] = first.get("n", 0) + 1
    second["n"] = second.get("n", 0) + 10
    return Said(f"{first['n']} {second['n']}".encode())


async def regenerate_both(asked: Asked) -> Said:
    for session in (await asked.session(), await asked.session("second")):
        await session.regenerate()
    return Said(b"changed")


async def slow(asked: Asked) -> Said:
    """Several await points, before and after a write: a client may leave at each of them."""
    session = await asked.session()
    await anyio.sleep(0.001)
    session["a"] = session.get("a", 0) + 1
    await anyio.sleep(0.001)
    session["b"] = session.get("b", 0) + 1
    if asked.query("regenerate"):
        await session.regenerate()
    await anyio.sleep(0.001)
    return Said(b"x" * 100_000)


PAGES: Mapping[str, Callable[[Asked], Awaitable[Said]]] = {
    "peek": peek, "counter": counter, "mutate": mutate, "append": append, "read": read, "set": set_, "who": who,
    "id": identify, "access": access, "login": login, "redirect-login": redirect_login, "logout": logout,
    "destroy": destroy, "regenerate": regenerate, "boom": boom, "status": status, "vary": vary, "stream": stream,
    "late-first-write": late_first_write, "late-destroy": late_destroy, "late-boom": late_boom, "file": file,
    "hidden": hidden, "form": form, "upload": upload, "both": both, "regenerate-both": regenerate_both, "slow": slow,
    "share": read,
}  # fmt: skip


async def talk(
    asked: Asked,
    accept: Callable[[], Awaitable[None]],
    refuse: Callable[[], Awaitable[None]],
    receive: Callable[[], Awaitable[str | None]],
    send: Callable[[str], Awaitable[None]],
) -> None:
    """`/ws`: use the session as `?how=` says, accept (or `?refuse=1`), then obey commands until the client leaves.

    `receive` returns None when the client has left.
    """
    await _use(asked)
    if asked.query("refuse"):
        await refuse()
        return
    await accept()
    session = await asked.session()
    while (command := await receive()) is not None:
        try:
            answer = await _obey(session, command)
        except SessionError as error:
            answer = type(error).__name__
        await send(answer)


async def _obey(session: Session, command: str) -> str:
    verb, *rest = command.split()
    if verb == "get":
        return str(session.get(rest[0]))
    if verb == "set":
        session[rest[0]] = rest[1]
    elif verb == "save":
        await session.save()
    elif verb == "regenerate":
        await session.regenerate()
    elif verb == "login":
        await session.login(rest[0])
    elif verb == "reset":
        await session.reset()
    elif verb == "destroy":
        await session.destroy()
    elif verb == "boom":
        raise Boom("the application has a bug")
    return "ok"
