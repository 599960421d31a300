"""What the servers serve here, on Starlette: requests of every kind; some wait until the test lets them go on."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import FrameType

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.operations.site import FOLDER, go, store

from sessioncore import Session
from sessioncore_asgi import SessionMiddleware, get_session


async def count(request: Request) -> PlainTextResponse:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return PlainTextResponse(f"{session['n']} {os.getpid()}")


async def slow(request: Request) -> PlainTextResponse:
    session = await get_session(request)
    await go("slow")
    session["slow"] = True
    return PlainTextResponse("done")


async def stream(request: Request) -> StreamingResponse:
    session = await get_session(request)

    async def parts(session: Session) -> AsyncIterator[str]:
        yield "begun "
        await go("stream")
        session["stream"] = True
        yield "done"

    return StreamingResponse(parts(session), media_type="text/plain")


async def background(request: Request) -> PlainTextResponse:
    session = await get_session(request)

    async def work() -> None:
        await go("background")
        session["background"] = True

    return PlainTextResponse("ok", background=BackgroundTask(work))


async def events(request: Request) -> StreamingResponse:
    session = await get_session(request)
    session.get("n")

    async def parts() -> AsyncIterator[str]:
        yield "data: begun\n\n"
        (FOLDER / "events").touch()
        await request.app.state.stopping.wait()

    return StreamingResponse(parts(), media_type="text/event-stream")


async def talk(socket: WebSocket) -> None:
    session = await get_session(socket)
    session.get("n")
    await socket.accept()

    stopping: anyio.Event = socket.app.state.stopping

    async def wait_for_the_end() -> None:
        await stopping.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_the_end)
        async for text in socket.iter_text():
            session["said"] = text
            await session.save()
            await socket.send_text("kept")
        tasks.cancel_scope.cancel()
    if stopping.is_set():
        with suppress(OSError, RuntimeError, WebSocketDisconnect):  # the client, or granian, was quicker
            await socket.close(1001)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Tell event streams and sockets that the server stops: it waits for them before it ends the lifespan."""
    app.state.stopping = stopping = anyio.Event()
    loop, former = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        if callable(former):
            former(number, frame)

    signal.signal(signal.SIGTERM, stop)
    yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/count", count),
        Route("/slow", slow),
        Route("/stream", stream),
        Route("/background", background),
        Route("/events", events),
        WebSocketRoute("/talk", talk),
    ],
)
app.add_middleware(SessionMiddleware, store=store)
