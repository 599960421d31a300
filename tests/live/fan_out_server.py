"""An ASGI application whose sockets end with their sessions, or by a message on a Pub/Sub channel, for comparison.

python -m tests.live.fan_out_server URL PORT [CHANNEL]
"""

import sys
from collections import defaultdict
from typing import Any

import anyio
import redis.asyncio
import uvicorn

from sessioncore import SessionConfig, SessionStore, storage_from_url
from sessioncore_asgi import SessionMiddleware

BY_OWNER: dict[str, list[Any]] = defaultdict(list)


async def sockets(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and wait for the end."""
    await receive()
    owner = scope["session"].owner
    await send({"type": "websocket.accept"})
    BY_OWNER[owner].append(send)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    BY_OWNER[owner].remove(send)


async def listen(url: str, channel: str) -> None:
    """Close the sockets of each owner that is named on the channel: what an application without sessioncore does."""
    redis_type: Any = redis.asyncio.Redis
    async with redis_type.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        async for message in pubsub.listen():
            if message["type"] == "message":
                for send in list(BY_OWNER[message["data"].decode()]):
                    await send({"type": "websocket.close", "code": 4000})


async def main(url: str, port: int, channel: str | None) -> None:
    """Serve until the process is ended."""
    store = SessionStore(SessionConfig.development(storage=storage_from_url(url)))
    config = uvicorn.Config(
        SessionMiddleware(sockets, store), port=port, log_config=None, lifespan="off", ws_ping_interval=None
    )
    async with store, anyio.create_task_group() as tasks:
        if channel is not None:
            tasks.start_soon(listen, url, channel)
        await uvicorn.Server(config).serve()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
