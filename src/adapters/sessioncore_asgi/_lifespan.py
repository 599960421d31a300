"""Opens the storage before the application starts, and closes it after the application has stopped."""

from sessioncore import SessionStore
from sessioncore_asgi._types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["run_lifespan"]

_LAST = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"})


async def run_lifespan(app: ASGIApp, store: SessionStore, scope: Scope, receive: Receive, send: Send) -> None:
    """Open and close the storage around the application's lifespan, or on its own if the application has none."""
    started = closed = False

    async def receive_and_open() -> Message:
        nonlocal started, closed
        message = await receive()
        if message["type"] == "lifespan.startup":
            started = closed = True  # if the start fails, the store closes itself
            await _open_storage(store, send)
            closed = False
        return message

    async def close_and_send(message: Message) -> None:
        nonlocal closed
        if message["type"] in _LAST and not closed:
            closed = True
            await store.aclose()
        await send(message)

    try:
        await app(scope, receive_and_open, close_and_send)
    except Exception:
        if started:
            raise
    finally:
        if started and not closed:  # the application ended without sending its last message
            await store.aclose()
    if not started:  # the application has no lifespan: it raised, or returned without receiving the start
        await _serve_lifespan(store, receive, send)


async def _serve_lifespan(store: SessionStore, receive: Receive, send: Send) -> None:
    await receive()
    await _open_storage(store, send)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await store.aclose()
    await send({"type": "lifespan.shutdown.complete"})


async def _open_storage(store: SessionStore, send: Send) -> None:
    try:
        await store.start()
    except Exception as exc:
        # Servers take an exception alone to mean that there is no lifespan, and start; this message stops them.
        await send({"type": "lifespan.startup.failed", "message": f"the session storage did not open: {exc}"})
        raise
