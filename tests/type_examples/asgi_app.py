"""ASGI without a framework: the middleware is an application that wraps another one."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sessioncore import SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    session = await get_session(scope)
    session.mutate("visits", lambda count: count + 1, default=0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


app = SessionMiddleware(hello, SessionStore())
