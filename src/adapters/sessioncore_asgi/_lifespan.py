"""Opens the storage before the application starts, and closes it after the application has stopped."""

from contextlib import AsyncExitStack

from sessioncore import SessionStore
from sessioncore_asgi._types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["run_lifespan"]

_LAST = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"})


async def run_lifespan(app: ASGIApp, store: SessionStore, scope: Scope, receive: Receive, send: Send) -> None:
    """Open and close the storage around the application's lifespan, or on its own if the application has none."""
    started = False

    async def receive_and_open() -> Message:
        nonlocal started
        message = await receive()
        if message["type"] == "lifespan.startup":
            started = True
            await _open_storage(opened, store, send)
        return message

    async def close_and_send(message: Message) -> None:
        if message["type"] in _LAST:
            await opened.aclose()
        await send(message)

    async with AsyncExitStack() as opened:  # closed at the end, if the application ended without its last message
        try:
            await app(scope, receive_and_open, close_and_send)
        except Exception:
            if started:
                raise
        if not started:  # the application has no lifespan: it raised, or returned without receiving the start
            await _serve_lifespan(opened, store, receive, send)


async def _serve_lifespan(opened: AsyncExitStack, store: SessionStore, receive: Receive, send: Send) -> None:
    await receive()
    await _open_storage(opened, store, send)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await opened.aclose()
    await send({"type": "lifespan.shutdown.complete"})


async def _open_storage(opened: AsyncExitStack, store: SessionStore, send: Send) -> None:
    try:
        await opened.enter_async_context(store)
    except Exception as exc:
        # Servers take an exception alone to mean that there is no lifespan, and start; this message stops them.
        await send({"type": "lifespan.startup.failed", "message": f"the session storage did not open: {exc}"})
        raise
