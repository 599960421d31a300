"""ASGI without a framework."""

from typing import Any

from benchmarks.workloads import Handler

__all__ = ["app"]


def app(handlers: dict[str, Handler]) -> Any:
    """Return an ASGI application that answers each path with two bytes."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        text = await handlers[scope["path"][1:]](scope)
        body = b"ok" if text is None else str(text).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
