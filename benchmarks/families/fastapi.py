"""FastAPI."""

from typing import Any

from benchmarks.workloads import Handler
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

__all__ = ["app"]


def app(handlers: dict[str, Handler]) -> Any:
    """Return a FastAPI application."""
    made = FastAPI(openapi_url=None)

    def endpoint(handler: Handler) -> Any:
        async def answer(request: Request) -> PlainTextResponse:
            return PlainTextResponse(await handler(request) or "ok")

        return answer

    for name, handler in handlers.items():
        made.get(f"/{name}")(endpoint(handler))
    return made
