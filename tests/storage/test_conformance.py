"""Every embedded storage keeps the whole contract, and the contract catches what is broken."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from tests.storage.rigs import RIGS, manual_rig

from sessioncore import StorageError, testing
from sessioncore.storage import KeyTaken, MemoryStorage, Stored
from sessioncore.testing import (  # pyright: ignore[reportPrivateUsage] -- the kit itself is under test
    BEST_EFFORT_CHECKS,
    STORAGE_CHECKS,
    Check,
    ManualClock,
    _ends,
    _owners,
    _races,
    _reads,
    _times,
    _writes,
)

pytestmark = pytest.mark.anyio


def name_of(check: Check) -> str:
    return str(getattr(check, "__name__", check))


@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=name_of)
@pytest.mark.parametrize("rig_name", RIGS)
async def test_the_contract_holds(rig_name: str, check: Check, tmp_path: Path) -> None:
    async with RIGS[rig_name](tmp_path) as rig:
        await check(rig)


def test_no_check_was_left_out_of_the_tuples() -> None:
    written = {
        check
        for module in (_ends, _owners, _races, _reads, _times, _writes)
        for name, check in vars(module).items()
        if inspect.iscoroutinefunction(check) and check.__module__ == module.__name__ and name[0] != "_"
    }
    assert written == set(STORAGE_CHECKS)
    assert len(STORAGE_CHECKS) == len(written)
    assert set(BEST_EFFORT_CHECKS) == written - set(_races.CHECKS)
    assert set(testing.__all__) <= set(vars(testing))


class TakesWhatIsTaken(MemoryStorage):
    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        await self.delete(key)
        return await super().create(key, data, ttl, owner=owner)


class LosesTheDays(MemoryStorage):
    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        return await super().create(key, data, ttl if ttl < 86400 else ttl % 86400 + 1, owner=owner)


class RoundsToSeconds(MemoryStorage):
    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        return await super().create(key, data, max(1, int(ttl)), owner=owner)


class RevivesByTouch(MemoryStorage):
    async def touch(self, key: str, ttl: float) -> bool:
        return await super().touch(key, ttl) or await self.create(key, b"", ttl) is not None


class IgnoresTheVersion(MemoryStorage):
    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        stored = await self.load(key)
        return stored and await super().replace(key, data, ttl, version=stored.version, owner=owner)


class CreatesByReplace(MemoryStorage):
    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        result = await super().replace(key, data, ttl, version=version, owner=owner)
        return await self.create(key, data, ttl, owner=owner) if result is None else result


class ForgetsToUnbind(MemoryStorage):
    named: dict[str, str]

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        self.named = {key: owner} if owner else {}
        return await super().create(key, data, ttl, owner=owner)

    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        return await super().replace(key, data, ttl, version=version, owner=owner or self.named.get(key))


class ClearsTheNeighbours(MemoryStorage):
    async def clear(self, prefix: str) -> int:
        return await super().clear(prefix.rstrip(":"))


class CopiesInsteadOfMoving(MemoryStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        result = await super().replace(key, data, ttl, version=version, owner=owner)
        return await self.create(new_key, data, ttl, owner=owner) if isinstance(result, int) else result


class NamesNoCollision(MemoryStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        try:
            return await super().move(key, new_key, data, ttl, version=version, owner=owner)
        except KeyTaken as exc:
            raise StorageError("something went wrong") from exc


class PurgesTheLiving(MemoryStorage):
    async def purge_expired(self) -> int:
        return await self.clear("")


class StartsVersionsAnew(MemoryStorage):
    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.clock = clock

    async def delete(self, *keys: str) -> int:
        ended = await super().delete(*keys)
        if not len(self):
            MemoryStorage.__init__(self, clock=self.clock)
        return ended


class LooksAndThenLeaps(MemoryStorage):
    """Compare and set in two steps, with a pause between them."""

    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        stored = await self.load(key)
        await checkpoint()
        if stored is None or stored.version != version:
            return stored
        await self.delete(key)
        return await self.create(key, data, ttl, owner=owner)


BROKEN: dict[type[MemoryStorage], str] = {
    TakesWhatIsTaken: "create_refuses_a_taken_key",
    LosesTheDays: "a_ttl_is_kept_exactly",
    RoundsToSeconds: "a_ttl_is_not_rounded_to_seconds",
    RevivesByTouch: "touching_a_missing_key_makes_nothing",
    IgnoresTheVersion: "a_conflict_returns_the_current_record_and_changes_nothing",
    CreatesByReplace: "replace_creates_nothing",
    ForgetsToUnbind: "no_owner_named_means_no_owner_any_more",
    ClearsTheNeighbours: "clear_spares_the_neighbours",
    CopiesInsteadOfMoving: "move_gives_the_record_a_new_key",
    NamesNoCollision: "a_move_onto_a_taken_key_is_refused",
    PurgesTheLiving: "purging_spares_the_living",
    StartsVersionsAnew: "an_old_version_never_matches_a_new_record",
    LooksAndThenLeaps: "of_parallel_replaces_one_wins",
}


@pytest.mark.parametrize(("broken", "caught_by"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", value))
async def test_the_contract_catches_a_storage_that(broken: Callable[..., MemoryStorage], caught_by: str) -> None:
    check = next(check for check in STORAGE_CHECKS if name_of(check) == caught_by)
    clock = ManualClock()
    with pytest.raises((AssertionError, StorageError, BaseExceptionGroup)):
        await check(manual_rig(broken(clock=clock), clock))
