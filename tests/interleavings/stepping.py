"""A storage whose every call stops before it takes effect, and again before its reply is seen."""

from asyncio import Future
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ClassVar, TypeVar

from tests.interleavings.hand_loop import HandLoop

from sessioncore import MemoryStorage, Storage
from sessioncore.storage import BoundsCalls, Clears, KeepsTombstones
from sessioncore.testing import FailingStorage

__all__ = ["ACTOR", "SteppingStorage", "Steps"]

T = TypeVar("T")

ACTOR: ContextVar[str] = ContextVar("ACTOR")  # who acts; tasks that the core starts inherit it


class Steps:
    """The places where actors wait to be let go on; the scheduler lets one go at a time.

    `replies`: a reply that is on its way is a switch point of its own; else it is seen as soon as
    the call took effect, which is the same for requests that share nothing but storage and clock.
    """

    def __init__(self, loop: HandLoop, *, replies: bool) -> None:
        self.loop = loop
        self.replies = replies
        self.open = True  # nobody has to wait, as before and after the race
        self.now = 0
        self._waiting: dict[str, list[Future[None]]] = {}

    def begin(self) -> None:
        """From now on everybody waits for his turn."""
        self.open = False
        self._waiting.clear()

    def tick(self) -> int:
        """Return the next moment: no two things happen in one."""
        self.now += 1
        return self.now

    async def pause(self) -> None:
        """Wait to be let go on."""
        if not self.open:
            place: Future[None] = self.loop.create_future()
            self._waiting.setdefault(ACTOR.get(), []).append(place)
            await place

    async def reply(self) -> None:
        """Wait for the reply of a call that took effect."""
        if self.replies:
            await self.pause()

    def ready(self) -> list[str]:
        """Who can be let go on."""
        return sorted(actor for actor, places in self._waiting.items() if any(not p.done() for p in places))

    def let(self, actor: str) -> None:
        """Let one actor go on, to his next stop."""
        places = self._waiting[actor]
        while places:
            place = places.pop(0)
            if not place.done():  # else its task was cancelled
                place.set_result(None)
                break
        self.loop.settle()


class SteppingStorage(FailingStorage):
    """Records in memory (or in what `make` returns, a faulty storage, say), reached step by step."""

    capabilities: ClassVar[frozenset[type]] = frozenset({BoundsCalls, Clears, KeepsTombstones})

    def __init__(self, steps: Steps, clock: Callable[[], float], make: Callable[[Storage], Storage]) -> None:
        super().__init__(make(MemoryStorage(clock=clock)))
        self._steps = steps
        self._clock = clock
        self._make = make

    @property
    def inner(self) -> Storage:
        return self._storage

    def empty(self) -> None:
        """Begin anew."""
        self._storage = self._make(MemoryStorage(clock=self._clock))

    def bound_calls(self, seconds: float) -> bool:
        return True  # no timers: time passes by hand here

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._steps.pause()
        result = await call()
        await self._steps.reply()
        return result
