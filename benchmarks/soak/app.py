"""One server process: the same pages on one of the three adapters.

python -m benchmarks.soak.app ADAPTER URL PORT
"""

import gc
import sys
from datetime import timedelta
from typing import Any

import anyio
import uvicorn
from aiohttp import web
from litestar import Litestar, Request, Response, WebSocket, route, websocket
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

import sessioncore_aiohttp
from sessioncore import Session, SessionConfig, SessionStore
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore_asgi import SessionMiddleware
from sessioncore_litestar import SessionPlugin

IDLE = timedelta(seconds=40)  # sessions that nobody ends expire, so the number of keys levels off


def make_store(url: str) -> SessionStore:
    storage = RedisStorage(Redis.from_url(url), near_cache=NearCache())
    return SessionStore(SessionConfig.development(storage=storage, idle_timeout=IDLE))


async def act(store: SessionStore, session: Session, action: str, owner: str) -> dict[str, Any]:
    """Do what a page does, and return what it shows."""
    match action:
        case "add":
            session.mutate("n", lambda n: n + 1, default=0)
        case "login":
            await session.login(owner)
        case "regenerate":
            await session.regenerate()
        case "logout":
            await session.destroy()
        case "revoke":
            await store.revoke_all(owner, keep=session)
        case _:
            pass
    return {"n": session.get("n", 0)}


def starlette_app(store: SessionStore) -> Any:
    async def page(request: Any) -> JSONResponse:
        return JSONResponse(await act(store, request.session, **request.path_params))

    async def stream(request: Any) -> StreamingResponse:
        request.session.get("n")

        async def events() -> Any:
            for number in range(100):
                yield f"data: {number}\n\n"
                await anyio.sleep(0.2)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def socket(connection: Any) -> None:
        connection.session.get("n")
        await connection.accept()
        async for text in connection.iter_text():
            await connection.send_text(text)

    routes = [
        Route("/stream", stream),
        WebSocketRoute("/socket", socket),
        Route("/{action}/{owner}", page, methods=["POST"]),
    ]
    return SessionMiddleware(Starlette(routes=routes), store)


def litestar_app(store: SessionStore) -> Any:
    @route("/{action:str}/{owner:str}", http_method=["POST"], status_code=200)
    async def page(request: Request[Any, Any, Any], action: str, owner: str) -> Response[Any]:
        return Response(await act(store, request.session, action, owner))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @websocket("/socket")
    async def socket(socket: WebSocket[Any, Any, Any]) -> None:
        socket.session.get("n")
        await socket.accept()
        async for text in socket.iter_data():
            await socket.send_text(str(text))

    return Litestar([page, socket], plugins=[SessionPlugin(store)])


def aiohttp_app(store: SessionStore) -> web.Application:
    async def page(request: web.Request) -> web.Response:
        session = await sessioncore_aiohttp.get_session(request)
        return web.json_response(await act(store, session, **request.match_info))

    async def socket(request: web.Request) -> web.WebSocketResponse:
        (await sessioncore_aiohttp.get_session(request)).get("n")
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    app = web.Application()
    app.router.add_get("/socket", socket)
    app.router.add_post("/{action}/{owner}", page)
    sessioncore_aiohttp.setup(app, store)
    return app


async def collect() -> None:
    """Free what the collector would free sooner or later, so that only what is still in use can grow."""
    while True:
        gc.collect()
        await anyio.sleep(5)


async def main(adapter: str, url: str, port: int) -> None:
    store = make_store(url)
    if adapter == "aiohttp":
        runner = web.AppRunner(aiohttp_app(store), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await collect()
    app = starlette_app(store) if adapter == "asgi" else litestar_app(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        await uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", access_log=False)).serve()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
