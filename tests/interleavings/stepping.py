"""A storage in which each call waits before it takes effect, and can wait again before its caller gets the reply."""

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

ACTOR: ContextVar[str] = ContextVar("ACTOR")  # the name of the actor; tasks that the core starts inherit it


class Steps:
    """The places where actors wait; the scheduler lets one actor at a time go on.

    `replies`: other actors may act between the effect of a call and its reply. Otherwise the caller gets the reply
    immediately, which makes no difference to requests that share nothing but storage and clock.
    """

    def __init__(self, loop: HandLoop, *, replies: bool) -> None:
        self.loop = loop
        self.replies = replies
        self.open = True  # nobody has to wait, as before and after the race
        self.now = 0
        self._waiting: dict[str, list[Future[None]]] = {}

    def begin(self) -> None:
        """Let each actor wait for its turn from now on."""
        self.open = False
        self._waiting.clear()

    def tick(self) -> int:
        """Return the next moment; no two things happen at the same one."""
        self.now += 1
        return self.now

    async def pause(self) -> None:
        """Wait until the scheduler lets this actor go on."""
        if not self.open:
            place: Future[None] = self.loop.create_future()
            self._waiting.setdefault(ACTOR.get(), []).append(place)
            await place

    async def reply(self) -> None:
        """Wait for the reply to a call that has taken effect."""
        if self.replies:
            await self.pause()

    def ready(self) -> list[str]:
        """Return the actors that are waiting."""
        return sorted(actor for actor, places in self._waiting.items() if any(not p.done() for p in places))

    def let(self, actor: str) -> None:
        """Let one actor go on to its next stop."""
        places = self._waiting[actor]
        while places:
            place = places.pop(0)
            if not place.done():  # else its task was cancelled
                place.set_result(None)
                break
        self.loop.settle()


class SteppingStorage(FailingStorage):
    """A MemoryStorage (or what `make` makes of it, such as a faulty storage), reached step by step."""

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
        """Forget all records."""
        self._storage = self._make(MemoryStorage(clock=self._clock))

    def bound_calls(self, seconds: float) -> bool:
        return True  # so the core sets no timers: here the test moves the time

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._steps.pause()
        result = await call()
        await self._steps.reply()
        return result
