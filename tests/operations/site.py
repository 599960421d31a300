"""The site that the servers serve, in both frameworks: some requests wait until the test lets them go on."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import anyio
from tests.adapters.page import PageRequest, PageResponse

from sessioncore import SessionConfig, SessionStore, storage_from_url

__all__ = ["PAGES", "STOPPING", "store", "talk"]

FOLDER = Path(os.environ["SITE_FOLDER"])
STOPPING = anyio.Event()  # ends event streams and sockets: a server waits for them before it ends the lifespan
store = SessionStore(
    SessionConfig.development(
        storage=storage_from_url(os.environ["SESSIONCORE_STORAGE"]), storage_timeout=timedelta(seconds=2)
    )
)


async def go(name: str) -> None:
    """Tell the test that this request is on its way, and wait until it may go on."""
    (FOLDER / name).touch()
    while not (FOLDER / "go").exists():  # noqa: ASYNC110 - the test is another process
        await anyio.sleep(0.005)


async def count(request: PageRequest) -> PageResponse:
    session = await request.session()
    session["n"] = session.get("n", 0) + 1
    return PageResponse(f"{session['n']} {os.getpid()}".encode())


async def slow(request: PageRequest) -> PageResponse:
    session = await request.session()
    await go("slow")
    session["slow"] = True
    return PageResponse(b"done")


async def stream(request: PageRequest) -> PageResponse:
    session = await request.session()

    async def parts() -> AsyncIterator[bytes]:
        yield b"begun "
        await go("stream")
        session["stream"] = True
        yield b"done"

    return PageResponse(chunks=parts())


async def background(request: PageRequest) -> PageResponse:
    session = await request.session()

    async def work() -> None:
        await go("background")
        session["background"] = True

    return PageResponse(b"ok", background=work)


async def events(request: PageRequest) -> PageResponse:
    (await request.session()).get("n")

    async def parts() -> AsyncIterator[bytes]:
        yield b"data: begun\n\n"
        (FOLDER / "events").touch()
        await STOPPING.wait()

    return PageResponse(chunks=parts(), headers=[("Content-Type", "text/event-stream")])


async def talk(
    request: PageRequest,
    accept: Callable[[], Awaitable[None]],
    close: Callable[[int], Awaitable[None]],
    receive: Callable[[], Awaitable[str | None]],
    send: Callable[[str], Awaitable[None]],
) -> None:
    session = await request.session()
    session.get("n")
    await accept()

    async def wait_for_the_end() -> None:
        await STOPPING.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_the_end)
        while (text := await receive()) is not None:
            session["said"] = text
            await session.save()
            await send("kept")
        tasks.cancel_scope.cancel()
    if STOPPING.is_set():
        with suppress(OSError, RuntimeError):  # the client or granian has already closed it
            await close(1001)


PAGES: Final = {page.__name__: page for page in (count, slow, stream, background, events)}
