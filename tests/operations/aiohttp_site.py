"""The requests of `asgi_site` on aiohttp: `python -m tests.operations.aiohttp_site PORT`, or `app` for gunicorn."""

import os
import sys

import anyio
from aiohttp import web
from tests.operations.site import FOLDER, go, store

from sessioncore_aiohttp import get_session, setup

STOPPING = web.AppKey("stopping", anyio.Event)


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.Response(text=f"{session['n']} {os.getpid()}")


async def slow(request: web.Request) -> web.Response:
    session = await get_session(request)
    await go("slow")
    session["slow"] = True
    return web.Response(text="done")


async def stream(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun ")
    await go("stream")
    session["stream"] = True
    await response.write(b"done")
    return response


async def events(request: web.Request) -> web.StreamResponse:
    (await get_session(request)).get("n")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: begun\n\n")
    (FOLDER / "events").touch()
    await request.app[STOPPING].wait()
    return response


async def talk(request: web.Request) -> web.WebSocketResponse:
    session = await get_session(request)
    session.get("n")
    socket = web.WebSocketResponse()
    await socket.prepare(request)

    async def close_at_the_end() -> None:
        await request.app[STOPPING].wait()
        await socket.close(code=1001)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close_at_the_end)
        async for message in socket:
            session["said"] = message.data
            await session.save()
            await socket.send_str("kept")
        tasks.cancel_scope.cancel()
    return socket


async def stopping(app: web.Application) -> None:
    app[STOPPING].set()


def make_app() -> web.Application:
    app = web.Application()
    app[STOPPING] = anyio.Event()
    app.on_shutdown.append(stopping)
    app.add_routes([web.get(f"/{page.__name__}", page) for page in (count, slow, stream, events, talk)])
    setup(app, store)
    return app


app = make_app()

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), shutdown_timeout=3)
