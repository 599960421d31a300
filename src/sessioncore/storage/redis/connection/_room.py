"""Room for requests on one connection: a request for which there is none waits instead of failing."""

import asyncio
from collections import deque
from collections.abc import Sized

__all__ = ["MAX_IN_FLIGHT", "Room"]

MAX_IN_FLIGHT = 2000  # requests


class Room:
    """Lets requests wait for room, which they get in the order in which they came.

    There is none while `MAX_IN_FLIGHT` requests wait for their replies, or the socket takes no more bytes.
    """

    __slots__ = ("_in_flight", "_loop", "_paused", "full", "waiting")

    def __init__(self, in_flight: Sized) -> None:
        self.full = False
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._paused = False  # the socket takes no more bytes
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait until there is room for a request, or until the connection has ended."""
        woken = self._loop.create_future()
        self.waiting.append(woken)
        await woken

    def pause(self) -> None:
        """Let requests wait, because the socket takes no more bytes."""
        self._paused = self.full = True

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False
        self.update()

    def update(self) -> None:
        """Note how many requests are in flight by now, and wake as many of those that wait as there is room for."""
        places = 0 if self._paused else max(0, MAX_IN_FLIGHT - len(self._in_flight))
        self.full = places == 0
        while places > 0 and self.waiting:
            places -= self._wake_first()
        if self.waiting and not self.full:
            # A request that was woken may have been cancelled meanwhile: then the next one is woken.
            self._loop.call_soon(self.update)

    def wake_all(self) -> None:
        """Wake all that wait, because the connection has ended or was replaced."""
        while self.waiting:
            self._wake_first()

    def _wake_first(self) -> bool:
        """Wake the first one, unless it was cancelled; then return False."""
        woken = self.waiting.popleft()
        if woken.done():
            return False
        woken.set_result(None)
        return True
