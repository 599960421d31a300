"""A storage whose every call stops before it takes effect, and again before its reply is seen."""

from asyncio import Future
from collections.abc import Callable
from contextvars import ContextVar
from typing import ClassVar, cast

from tests.interleavings.hand_loop import HandLoop

from sessioncore import MemoryStorage, Moved, Storage, Stored, Unreadable
from sessioncore.storage import BoundsCalls, Clears, KeepsTombstones, Move, Written

__all__ = ["ACTOR", "SteppingStorage", "Steps"]

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


class SteppingStorage:
    """Records in memory (or in what `make` returns, a faulty storage, say), reached step by step."""

    capabilities: ClassVar[frozenset[type]] = frozenset({BoundsCalls, Clears, KeepsTombstones})

    def __init__(self, steps: Steps, clock: Callable[[], float], make: Callable[[Storage], Storage]) -> None:
        self._steps = steps
        self._clock = clock
        self._make = make
        self.empty()

    def empty(self) -> None:
        """Begin anew."""
        self.inner: Storage = self._make(MemoryStorage(clock=self._clock))

    def bound_calls(self, seconds: float) -> bool:
        return True  # no timers: time passes by hand here

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        await self._steps.pause()
        found = await self.inner.load(key, renew=renew)
        await self._steps.reply()
        return found

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        await self._steps.pause()
        version = await self.inner.create(key, data, ttl, owner=owner)
        await self._steps.reply()
        return version

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        await self._steps.pause()
        answer = await self.inner.replace(key, data, ttl, version=version, owner=owner)
        await self._steps.reply()
        return answer

    async def move(
        self,
        key: str,
        new_key: str,
        data: bytes,
        ttl: float,
        *,
        version: int,
        owner: str | None = None,
        tombstone: float = 0.0,
    ) -> Written:
        await self._steps.pause()
        answer: Written = await Move(key, new_key, data, ttl, version, owner, tombstone).invoke(self.inner)
        await self._steps.reply()
        return answer

    async def touch(self, key: str, ttl: float) -> bool:
        await self._steps.pause()
        alive = await self.inner.touch(key, ttl)
        await self._steps.reply()
        return alive

    async def delete(self, *keys: str) -> int:
        await self._steps.pause()
        ended = await self.inner.delete(*keys)
        await self._steps.reply()
        return ended

    async def clear(self, prefix: str) -> int:
        await self._steps.pause()
        ended = await cast("Clears", self.inner).clear(prefix)
        await self._steps.reply()
        return ended

    async def owned_keys(self, owner: str) -> list[str]:
        await self._steps.pause()
        keys = await self.inner.owned_keys(owner)
        await self._steps.reply()
        return keys
