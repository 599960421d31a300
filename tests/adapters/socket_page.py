"""The WebSocket page of the scenario applications, written once for every framework."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tests.adapters.page import Boom, PageRequest
from tests.adapters.pages import USES, use, use_as
from tests.adapters.stream_pages import wait_to_go, work_to_the_end

from sessioncore import Session, SessionError

__all__ = ["LEFT", "talk", "talk_by_text"]

LEFT: list[str] = []  # the queries of the sockets whose handler has received the disconnect


async def talk(
    request: PageRequest,
    accept: Callable[[], Awaitable[None]],
    refuse: Callable[[], Awaitable[None]],
    receive: Callable[[], Awaitable[str | None]],
    send: Callable[[str], Awaitable[None]],
) -> None:
    """Use the session as `?how=` says, accept (or `?refuse=1`), then obey commands until the client leaves.

    `receive` returns None when the client has left.
    """
    await use(request)
    if request.query("refuse"):
        await refuse()
        return
    await accept()
    session = await request.session()
    while (command := await receive()) is not None:
        if command == "wait":
            await send("waits")
            await wait_to_go()
            return
        if command == "close":
            await refuse()
            return
        if command == "end":
            await work_to_the_end(session)
        try:
            answer = await _obey(session, *command.split())
        except SessionError as error:
            answer = type(error).__name__
        await send(answer)
    LEFT.append(f"how={request.query('how')}")


async def _obey(session: Session, verb: str, name: str = "", value: str = "") -> str:
    if name and not value:
        return str(session.get(name))
    if value:
        session[name] = value
    elif verb in USES:
        await use_as(session, verb)
    else:
        raise Boom("the application has a bug")
    return "ok"


async def talk_by_text(
    talk: Callable[..., Awaitable[None]], request: PageRequest, socket: Any, disconnected: type[Exception]
) -> None:
    """Run `talk` on a socket as Starlette and Litestar have them, which raises when the client has left."""

    async def receive() -> str | None:
        try:
            return str(await socket.receive_text())
        except disconnected:
            return None

    async def close(code: int = 1000) -> None:
        with suppress(disconnected):
            await socket.close(code)

    await talk(request, socket.accept, close, receive, socket.send_text)
