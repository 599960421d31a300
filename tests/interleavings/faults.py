"""Storages that each break one promise of the contract: an exploration has to notice each of them."""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

from msgspec.structs import replace

from sessioncore import Moved, Storage, Stored, Unreadable
from sessioncore.storage import Clears, Move, Written
from sessioncore.testing import FailingStorage

__all__ = [
    "STORAGE_FAULTS", "CreateOverwrites", "DeleteDoesNothing", "DeleteForgetsTheIndex", "Faulty", "LoadIsStale",
    "MoveForgetsTheOwner", "MoveIgnoresTheVersion", "MoveLeavesTheOldRecord", "ReplaceCreates",
    "ReplaceIgnoresTheVersion", "TouchRevives",
]  # fmt: skip

T = TypeVar("T")


class Faulty(FailingStorage):
    """A correct storage; each class derived from it breaks one promise."""

    capabilities: ClassVar[frozenset[type]] = frozenset({Clears})
    needs_taken_ids: ClassVar[bool] = False  # the fault shows only if an ID is generated twice

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.inner = inner

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    async def move(self, key: str, new_key: str, data: bytes, ttl: float, **more: Any) -> Written:
        return await self.make_move(Move(key, new_key, data, ttl, **more))

    async def make_move(self, move: Move) -> Written:
        answer: Written = await self._through("move", lambda: move.invoke(self.inner))
        return answer


class ReplaceIgnoresTheVersion(Faulty):
    """The last one to write wins: updates are lost."""

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        there = await self.inner.load(key)
        return await self.inner.replace(
            key, data, ttl, version=there.version if isinstance(there, Stored) else version, owner=owner
        )


class MoveIgnoresTheVersion(Faulty):
    """What others wrote since the load is lost when the ID changes."""

    async def make_move(self, move: Move) -> Written:
        there = await self.inner.load(move.key)
        return await super().make_move(replace(move, version=there.version) if isinstance(there, Stored) else move)


class MoveLeavesTheOldRecord(Faulty):
    """The old ID stays valid after a login: session fixation."""

    async def make_move(self, move: Move) -> Written:
        there = await self.inner.load(move.key)
        answer = await super().make_move(move)
        if isinstance(answer, int) and isinstance(there, Stored):
            await self.inner.create(move.key, there.data, there.ttl)
        return answer


class MoveForgetsTheOwner(Faulty):
    """A session that has moved is missing from its owner's list."""

    async def make_move(self, move: Move) -> Written:
        return await super().make_move(replace(move, owner=None))


class DeleteDoesNothing(Faulty):
    """A delete reports that it has ended the session, and has not."""

    async def delete(self, *keys: str) -> int:
        return len([key for key in keys if await self.inner.load(key) is not None])


class DeleteForgetsTheIndex(Faulty):
    """The owner's list names sessions that have ended."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.listed: dict[str, str] = {}

    async def make_move(self, move: Move) -> Written:
        if move.owner is not None:
            self.listed[move.new_key] = move.owner
        return await super().make_move(move)

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        if owner is not None:
            self.listed[key] = owner
        return await self.inner.create(key, data, ttl, owner=owner)

    async def owned_keys(self, owner: str) -> list[str]:
        moved = set(await self.inner.owned_keys(owner))
        return sorted(moved | {key for key, whose in self.listed.items() if whose == owner})


class CreateOverwrites(Faulty):
    """A create under a key that is taken replaces another visitor's session."""

    needs_taken_ids = True

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        await self.inner.delete(key)
        return await self.inner.create(key, data, ttl, owner=owner)


class _Remembering(Faulty):
    """Remembers what was last loaded under each key, even if it has ended since."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.last: dict[str, bytes] = {}

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        found = await self.inner.load(key, renew=renew)
        if isinstance(found, Stored):
            self.last[key] = found.data
        return found


class TouchRevives(_Remembering):
    """A request that renews the idle clock brings back a session that was ended meanwhile."""

    async def touch(self, key: str, ttl: float) -> bool:
        if await self.inner.touch(key, ttl):
            return True
        return key in self.last and await self.inner.create(key, self.last[key], ttl) is not None


class LoadIsStale(_Remembering):
    """A cache in front of the storage keeps sessions that have ended."""

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        found = await super().load(key, renew=renew)
        if found is None and key in self.last:
            return Stored(self.last[key], 1, 1000.0)
        return found


class ReplaceCreates(Faulty):
    """A session that was ended comes back with the next write of a request in flight."""

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        answer = await self.inner.replace(key, data, ttl, version=version, owner=owner)
        return await self.inner.create(key, data, ttl, owner=owner) if answer is None else answer


STORAGE_FAULTS: tuple[type[Faulty], ...] = (
    ReplaceIgnoresTheVersion, MoveIgnoresTheVersion, MoveLeavesTheOldRecord, MoveForgetsTheOwner, DeleteDoesNothing,
    DeleteForgetsTheIndex, CreateOverwrites, TouchRevives, LoadIsStale, ReplaceCreates,
)  # fmt: skip
