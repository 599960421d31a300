"""One connection to one server, shared by all requests of an event loop.

redis-py opens the connection: address, TLS, password, Sentinel, protocol version
are its business. Then a `Pipe` takes the socket over. The link opens it when it is
first needed and again when it was lost. Nothing here knows a session, or what a
command means.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from time import monotonic
from typing import Any, TypeVar

from sessioncore.storage.redis._errors import Lost, Stalled
from sessioncore.storage.redis._pipe import LATE, YOUNG, Opened, Pipe

__all__ = ["Link", "before"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts to connect
_ACCIDENTS = 3  # connections in a row that may end at once before the next has to wait
_T = TypeVar("_T")


class Link:
    """A connection that comes back: opened when first needed, and anew after it was lost."""

    def __init__(self, connect: Callable[[Callable[[], asyncio.Protocol]], Awaitable[Opened]], patience: float) -> None:
        self._connect = connect
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._pipe: Pipe | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._early_ends = 0
        self._closed = False

    async def ask(self, payload: bytes, replies: int, due: float = inf) -> list[Any]:
        """Send packed commands, and return their replies before they are `due` by the monotonic clock.

        Where the connection stands, which is nearly always, its own timer sees to that: a
        timer for each request would cost as much as all the rest.

        Raises:
            Lost: the connection could not be had, or ended before the replies came; `Stalled` if time is up.
        """
        pipe = self._pipe
        if pipe is None or pipe.full:
            pipe = await before(due, self._usable())
        return await pipe.send(payload, replies, due)

    async def ask_again(self, payload: bytes, replies: int, due: float = inf) -> list[Any]:
        """Do what `ask` does, and once more if the connection breaks: for commands that change nothing.

        Raises:
            Lost: the connection could not be had, or ended before the replies came, twice; `Stalled` if time is up.
        """
        pipe = self._pipe
        if pipe is None or pipe.full:
            pipe = await before(due, self._usable())
        try:
            return await pipe.send(payload, replies, due)
        except Stalled:
            raise  # the caller has waited long enough
        except Lost:
            return await self.ask(payload, replies, due)

    async def aclose(self) -> None:
        """Wait for what is in flight, within bounds, and close."""
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        pipe = self._pipe
        if pipe is None:
            return
        if under_way := pipe.under_way():
            await asyncio.wait(under_way, timeout=self._patience)
        pipe.end(Lost("the storage was closed"))
        await asyncio.wait([pipe.ended], timeout=self._patience)

    async def _usable(self) -> Pipe:
        while True:
            if self._closed:
                raise Lost("the storage was closed")
            pipe = self._pipe
            if pipe is None:
                await self._dial()
            elif pipe.full:
                await pipe.room()
                # Whoever waited goes first; the bound is soft by those who came in between.
                if self._pipe is pipe:
                    return pipe
            else:
                return pipe

    async def _dial(self) -> None:
        """Wait for the one attempt that all callers share; a caller that gives up does not end it."""
        if self._dialling is None:
            if self._loop.time() < self._not_before:
                raise Lost("there is no connection") from self._failure
            self._dialling = self._loop.create_task(self._attempt())
        attempt = self._dialling
        await asyncio.wait([attempt])
        if self._pipe is None and self._failure is not None:
            raise Lost("no connection could be opened") from self._failure

    async def _attempt(self) -> None:
        pipe = Pipe(self._patience, self._forget)
        try:
            async with asyncio.timeout(self._patience):
                opened = await self._connect(lambda: pipe)
        except Exception as exc:  # noqa: BLE001 - a credential provider may raise anything; the callers get it
            self._failure = exc
            self._rest()
        else:
            pipe.start(opened)
            self._pipe, self._failure = pipe, None
            if not self._early_ends:
                self._pause = 0.0
        finally:
            self._dialling = None

    def _forget(self, pipe: Pipe) -> None:
        if self._pipe is pipe:
            self._pipe = None
            # Some early ends may be accidents; a server that goes on hanging up is left alone for a while.
            self._early_ends = self._early_ends + 1 if pipe.age() < YOUNG else 0
            if self._early_ends > _ACCIDENTS:
                self._rest()

    def _rest(self) -> None:
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._not_before = self._loop.time() + self._pause


async def before(due: float, call: Coroutine[Any, Any, _T]) -> _T:
    """Await `call` until it is `due` by the monotonic clock.

    Raises:
        Stalled: time is up.
    """
    if due == inf:
        return await call
    try:
        async with asyncio.timeout(due - monotonic()):
            return await call
    except TimeoutError as exc:
        raise Stalled(LATE) from exc
