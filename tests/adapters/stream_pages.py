"""The streams among the pages of the scenario applications: only the code in `chunks` runs after the headers."""

from collections.abc import AsyncIterator

from anyio import Event, sleep_forever
from tests.adapters.page import Boom, PageRequest, PageResponse

from sessioncore import ResponseStarted, Session

__all__ = ["PAGES", "wait_to_go", "work_to_the_end"]

_GO: list[Event] = []


async def stream(request: PageRequest) -> PageResponse:
    """Write before the response and during it."""
    session = await request.session()
    session["before"] = True

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            session["streamed"] = number
            yield b"chunk %d\n" % number

    return PageResponse(chunks=chunks())


async def late_first_write(request: PageRequest) -> PageResponse:
    """Write to a session for the first time when the headers have been sent."""
    session = await request.session()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"started: "
        for change in (lambda: session.set("late", True), session.regenerate, lambda: session.login("ada")):
            try:
                waits = change()
                if waits is not None:
                    await waits
                yield b"written "
            except ResponseStarted:
                yield b"refused "

    return PageResponse(chunks=chunks())


async def late_destroy(request: PageRequest) -> PageResponse:
    session = await request.session()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"started "
        await session.destroy()
        yield b"destroyed"

    return PageResponse(chunks=chunks())


async def late_boom(request: PageRequest) -> PageResponse:
    """A stream that fails after it has written to the session."""
    session = await request.session()
    session["early"] = True

    async def chunks() -> AsyncIterator[bytes]:
        yield b"started "
        session["late"] = True
        raise Boom("the application has a bug")

    return PageResponse(chunks=chunks())


async def events(request: PageRequest) -> PageResponse:
    """A stream that saves each of its changes; with `?how=late` nothing is changed before the stream."""
    session = await request.session()
    if request.query("how") != "late":
        session["begun"] = True

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            session["event"] = number
            await session.save()
            yield b"data: %d\n\n" % number

    return PageResponse(chunks=chunks())


async def feed(request: PageRequest) -> PageResponse:
    """An event stream that sends something, or nothing, and then sleeps until the client leaves."""
    session = await request.session()
    how = request.query("how")
    if how != "later":
        session.get("n")

    async def chunks() -> AsyncIterator[bytes]:
        if how != "silent":
            yield b"data: begun\n\n"
        if how == "later":
            session.get("n")
            yield b"data: used\n\n"
        try:
            await sleep_forever()
        finally:
            session["late"] = True
        yield b"never"

    return PageResponse(chunks=chunks(), headers=[("Content-Type", "text/event-stream")])


async def download(request: PageRequest) -> PageResponse:
    """A long response of another type, which goes on when `/download?go=on` is asked for."""
    session = await request.session()
    session.get("n")
    if request.query("go"):
        while _GO:
            _GO.pop().set()
        return PageResponse(b"ok")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begun "
        await wait_to_go()
        yield b"done"

    return PageResponse(chunks=chunks(), headers=[("Content-Type", "text/plain")])


async def end_alive(request: PageRequest) -> PageResponse:
    """End the session during work that must end with it, so that no response is sent from here."""
    await work_to_the_end(await request.session())
    return PageResponse(b"never")


async def work_to_the_end(session: Session) -> None:
    """End the session inside of an `alive` block; the caller handles SessionGone."""
    async with session.alive():
        await session.store.revoke(session.handle)
        await sleep_forever()


async def wait_to_go() -> None:
    """Wait until `/download?go=on` is asked for."""
    _GO.append(go := Event())
    await go.wait()


PAGES = (stream, late_first_write, late_destroy, late_boom, events, feed, download, end_alive)
