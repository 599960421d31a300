"""The least that any server-side session must do: split the cookie, look up, decode; no checks, no safety.

It is of no use in an application. It shows how much of a library's cost is not the work itself.
"""

import asyncio
import secrets
from typing import Any

import msgspec
from benchmarks.families.asgi import app as raw_app
from benchmarks.places import Place
from benchmarks.workloads import LARGE, SMALL, handlers

NAME = "hand-written floor"
FAMILY = "asgi"
STORAGES = ("memory", "redis")

decode = msgspec.msgpack.Decoder(dict).decode
encode = msgspec.msgpack.Encoder().encode


def build(place: Place) -> Any:
    return _in_redis(place) if place.name == "redis" else _in_memory()


def _in_memory() -> Any:
    table: dict[bytes, bytes] = {}

    async def read(scope: Any) -> None:
        decode(table[scope["sid"]])["user"]

    async def large(scope: Any) -> None:
        decode(table[scope["sid"]])["part-50"]

    async def update(scope: Any) -> None:
        session = decode(table[scope["sid"]])
        session["visits"] = session["visits"] + 1
        table[scope["sid"]] = encode(session)

    def store(scope: Any, session: Any) -> None:
        sid = secrets.token_urlsafe(32)
        table[sid.encode()] = encode(session)
        scope["new"] = sid

    async def first(scope: Any) -> None:
        store(scope, {"user": SMALL["user"]})

    async def fill(scope: Any) -> None:
        store(scope, SMALL)

    async def fill_large(scope: Any) -> None:
        store(scope, LARGE)

    async def login(scope: Any) -> None:
        session = decode(table.pop(scope["sid"]))
        session["owner"] = "user-1"
        store(scope, session)

    paths = handlers(session_of=lambda scope: {"user": 1})
    paths |= {"read": read, "update": update, "first": first, "large": large, "login": login}
    paths |= {"fill": fill, "fill-large": fill_large}
    return _with_cookie(raw_app(paths))


def _with_cookie(app: Any) -> Any:
    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"cookie":
                for part in value.split(b"; "):
                    if part.startswith(b"sid="):
                        scope["sid"] = part[4:]
                break

        async def send_with_cookie(message: Any) -> None:
            if message["type"] == "http.response.start" and "new" in scope:
                message["headers"].append(
                    (b"set-cookie", b"sid=" + scope["new"].encode() + b"; HttpOnly; Path=/; SameSite=lax; Secure")
                )
            await send(message)

        await app(scope, receive, send_with_cookie)

    return middleware


class _Wire(asyncio.Protocol):
    """GET and SET on one connection, replies in order, each small enough for one packet."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bytes]] = []
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.buffer:
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return
            size = int(self.buffer[1:end]) if self.buffer[:1] == b"$" else -2
            after = end + 2 if size < 0 else end + 4 + size
            if len(self.buffer) < after:
                return
            reply, self.buffer = self.buffer[end + 2 : end + 2 + max(size, 0)], self.buffer[after:]
            self.waiting.pop(0).set_result(reply)

    def call(self, *parts: bytes) -> asyncio.Future[bytes]:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self.transport.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        return future


def _in_redis(place: Place) -> Any:
    wires: list[_Wire] = []

    async def wire() -> _Wire:
        if not wires:
            port = int(place.url.rpartition(":")[2].partition("/")[0])
            _, made = await asyncio.get_running_loop().create_connection(_Wire, "127.0.0.1", port)
            wires.append(made)
            place.closers.append(_closer(made))
        return wires[0]

    async def load(scope: Any) -> Any:
        line = wires[0] if wires else await wire()
        return decode(await line.call(b"GET", b"floor:" + scope["sid"]))

    async def store(scope: Any, session: Any, sid: bytes | None = None) -> None:
        line = wires[0] if wires else await wire()
        if sid is None:
            text = secrets.token_urlsafe(32)
            scope["new"], sid = text, text.encode()
        await line.call(b"SET", b"floor:" + sid, encode(session), b"EX", b"1800")

    async def read(scope: Any) -> None:
        (await load(scope))["user"]

    async def large(scope: Any) -> None:
        (await load(scope))["part-50"]

    async def update(scope: Any) -> None:
        session = await load(scope)
        session["visits"] = session["visits"] + 1
        await store(scope, session, scope["sid"])

    async def first(scope: Any) -> None:
        await store(scope, {"user": SMALL["user"]})

    async def fill(scope: Any) -> None:
        await store(scope, SMALL)

    async def fill_large(scope: Any) -> None:
        await store(scope, LARGE)

    async def login(scope: Any) -> None:
        session = await load(scope)
        await wires[0].call(b"DEL", b"floor:" + scope["sid"])
        session["owner"] = "user-1"
        await store(scope, session)

    paths = handlers(session_of=lambda scope: {"user": 1})
    paths |= {"read": read, "update": update, "first": first, "large": large, "login": login}
    paths |= {"fill": fill, "fill-large": fill_large}
    return _with_cookie(raw_app(paths))


def _closer(wire: _Wire) -> Any:
    async def close() -> None:
        wire.transport.close()

    return close
