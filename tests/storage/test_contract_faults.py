"""The kit at work: storages that break one promise each, and the check by which each is caught."""

import fnmatch
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from msgspec import structs
from tests.storage.rigs import manual_rig
from tests.storage.seven_calls import Row, ServerStorage, SevenCallStorage, seven_call_rig

from sessioncore import MemoryStorage, StorageError, StorageUnavailable
from sessioncore.storage import (
    LATER,
    Call,
    Clears,
    Create,
    KeepsTombstones,
    KeyTaken,
    Later,
    Move,
    Moved,
    Opens,
    Purges,
    Replace,
    Reply,
    SpreadsKeys,
    Stored,
    Unreadable,
    Written,
)
from sessioncore.testing import STORAGE_CHECKS, Check, ManualClock, NotApplicable, Rig

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """That the checks fail does not depend on the event loop."""
    return "asyncio"


def check_named(name: str) -> Check:
    (check,) = (check for check in STORAGE_CHECKS if check.__name__ == name)
    return check


@asynccontextmanager
async def caught() -> AsyncGenerator[None]:
    """What a check raises where a promise is broken: its own assertion, or an error of the storage."""
    with pytest.raises((AssertionError, StorageError, TimeoutError, BaseExceptionGroup)):
        yield


# -- the seven calls


class TakesATakenKey(SevenCallStorage):
    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        return self.put(key, data, ttl, owner)


class LosesTheDays(SevenCallStorage):
    def put(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        return super().put(key, data, ttl if ttl < 86400 else ttl % 86400 + 1, owner)


class RoundsToSeconds(SevenCallStorage):
    def put(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        return super().put(key, data, max(1, int(ttl)), owner)


class KeepsTheFirstEnd(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        row = self.rows.get(key)
        left = row.ends - self.clock() if isinstance(row, Row) else ttl
        return await super().replace(key, data, left, version=version, owner=owner)


class KeepsTheExpired(SevenCallStorage):
    async def find(self, key: str) -> Row | Unreadable | None:
        await checkpoint()
        row = self.rows.get(key)
        return row if isinstance(row, Row) else await super().find(key)


class RenewsByEveryLoad(SevenCallStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        return await super().load(key, renew=renew or 1000)


class RenewsTheVersion(SevenCallStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        found = await super().load(key)
        if renew is not None and isinstance(found, Stored):
            self.put(key, found.data, renew, None)
        return await super().load(key)


class ShowsTheTtlBeforeTheRenewal(SevenCallStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        before = await super().load(key)
        await super().load(key, renew=renew)
        return before


class RevivesByRenewal(SevenCallStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        if renew is not None and await self.find(key) is None:
            self.put(key, b"", renew, None)
        return await super().load(key, renew=renew)


class RevivesByTouch(SevenCallStorage):
    async def touch(self, key: str, ttl: float) -> bool:
        return await super().touch(key, ttl) or await self.create(key, b"", ttl) is not None


class DropsTheOwnerByTouch(SevenCallStorage):
    async def touch(self, key: str, ttl: float) -> bool:
        found = await self.load(key, renew=ttl)
        if isinstance(found, Stored):
            self.rows[key] = Row(found.data, found.version, self.clock() + ttl, None)
        return found is not None


class IgnoresTheVersion(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        found = await self.load(key)
        return self.put(key, data, ttl, owner) if found else None


class HidesTheConflict(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        result = await super().replace(key, data, ttl, version=version, owner=owner)
        return result if isinstance(result, int) else None


class CreatesByReplace(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        result = await super().replace(key, data, ttl, version=version, owner=owner)
        return await self.create(key, data, ttl, owner=owner) if result is None else result


class KeepsTheOwnerThatIsNotNamed(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        row = self.rows.get(key)
        before = row.owner if isinstance(row, Row) else None
        return await super().replace(key, data, ttl, version=version, owner=owner or before)


class CountsVersionsPerKey(SevenCallStorage):
    def put(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        row = self.rows.get(key)
        version = row.version + 1 if isinstance(row, Row) else 1
        self.rows[key] = Row(data, version, self.clock() + ttl, owner)
        return version


class CopiesInsteadOfMoving(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        result = await self.replace(key, data, ttl, version=version, owner=owner)
        return await self.create(new_key, data, ttl, owner=owner) if isinstance(result, int) else result


class MovesWhateverTheVersion(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        found = await self.load(key)
        now = found.version if isinstance(found, Stored) else version
        return await super().move(key, new_key, data, ttl, version=now, owner=owner)


class MovesOntoATakenKey(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        if new_key != key:
            self.rows.pop(new_key, None)
        return await super().move(key, new_key, data, ttl, version=version, owner=owner)


class MovesOntoItself(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        if key == new_key:
            return await self.replace(key, data, ttl, version=version, owner=owner)
        return await super().move(key, new_key, data, ttl, version=version, owner=owner)


class NamesNoCollision(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        try:
            return await super().move(key, new_key, data, ttl, version=version, owner=owner)
        except KeyTaken as exc:
            raise StorageError("something went wrong") from exc


class ForgetsTheOwnerOfAMove(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        return await super().move(key, new_key, data, ttl, version=version)


class CountsEveryKeyNamed(SevenCallStorage):
    async def delete(self, *keys: str) -> int:
        await super().delete(*keys)
        return len(keys)


class ListsTheExpired(SevenCallStorage):
    async def owned_keys(self, owner: str) -> list[str]:
        return [key for key, row in self.rows.items() if isinstance(row, Row) and row.owner == owner]


class ListsByTheBeginningOfAName(SevenCallStorage):
    async def owned_keys(self, owner: str) -> list[str]:
        return [key for key, row in self.rows.items() if isinstance(row, Row) and (row.owner or "").startswith(owner)]


# -- among parallel callers


class ReplacesInTwoSteps(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        found = await self.load(key)
        if not isinstance(found, Stored) or found.version != version:
            return found
        await self.load(key)  # a second trip: the first one's lock is let go meanwhile
        return self.put(key, data, ttl, owner)


class MovesInTwoSteps(SevenCallStorage):
    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        found = await self.load(key)
        if not isinstance(found, Stored) or found.version != version:
            return found
        new = await self.create(new_key, data, ttl, owner=owner)
        if new is None:
            raise KeyTaken("the new key is taken")
        await self.delete(key)
        return new


class RevivesByALateWrite(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        found = await self.load(key)
        await self.load(key)  # a second trip, after which the record may be gone
        return None if found is None else self.put(key, data, ttl, owner)


class RenewsByWritingBack(SevenCallStorage):
    async def touch(self, key: str, ttl: float) -> bool:
        found = await self.load(key)
        await self.load(key)  # a second trip, after which the record may be another or gone
        if isinstance(found, Stored):
            self.rows[key] = Row(found.data, found.version, self.clock() + ttl, None)
        return found is not None


# -- what cannot be read


class OverwritesWhatIsNotItsOwn(SevenCallStorage):
    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        if isinstance(await self.find(key), Unreadable):
            return self.put(key, data, ttl, owner)
        return await super().replace(key, data, ttl, version=version, owner=owner)


class TakesAnUnreadableKeyForAFreeOne(SevenCallStorage):
    async def find(self, key: str) -> Row | Unreadable | None:
        found = await super().find(key)
        return found if isinstance(found, Row) else None


class NeverDeletesWhatIsNotItsOwn(SevenCallStorage):
    async def delete(self, *keys: str) -> int:
        return await super().delete(*[key for key in keys if isinstance(await self.find(key), Row)])


OF_THE_SEVEN_CALLS: dict[type[SevenCallStorage], str] = {
    TakesATakenKey: "create_refuses_a_taken_key",
    LosesTheDays: "a_ttl_is_kept_exactly",
    RoundsToSeconds: "a_ttl_is_not_rounded_to_seconds",
    KeepsTheFirstEnd: "replace_and_move_set_the_ttl",
    KeepsTheExpired: "a_record_ends_with_its_ttl",
    RenewsByEveryLoad: "plain_loading_leaves_the_ttl_alone",
    RenewsTheVersion: "loading_with_renew_sets_the_ttl_and_only_that",
    ShowsTheTtlBeforeTheRenewal: "loading_with_renew_sets_the_ttl_and_only_that",
    RevivesByRenewal: "loading_with_renew_revives_nothing",
    RevivesByTouch: "touching_a_missing_key_makes_nothing",
    DropsTheOwnerByTouch: "touching_and_loading_leave_the_owner_alone",
    IgnoresTheVersion: "a_conflict_returns_the_current_record_and_changes_nothing",
    HidesTheConflict: "a_conflict_returns_the_current_record_and_changes_nothing",
    CreatesByReplace: "replace_creates_nothing",
    KeepsTheOwnerThatIsNotNamed: "no_owner_named_means_no_owner_any_more",
    CountsVersionsPerKey: "an_old_version_never_matches_a_new_record",
    CopiesInsteadOfMoving: "move_gives_the_record_a_new_key",
    MovesWhateverTheVersion: "a_conflicting_move_changes_nothing",
    MovesOntoATakenKey: "a_move_onto_a_taken_key_is_refused",
    MovesOntoItself: "a_move_onto_itself_is_refused",
    NamesNoCollision: "a_move_onto_a_taken_key_is_refused",
    ForgetsTheOwnerOfAMove: "create_replace_and_move_name_the_owner",
    CountsEveryKeyNamed: "deleting_returns_how_many_were_live",
    ListsTheExpired: "an_expired_key_is_not_listed",
    ListsByTheBeginningOfAName: "odd_owners_are_kept_apart",
    ReplacesInTwoSteps: "of_parallel_replaces_one_wins",
    MovesInTwoSteps: "of_parallel_moves_one_wins",
    RevivesByALateWrite: "after_delete_returned_no_writer_brings_it_back",
    RenewsByWritingBack: "a_renewal_never_undoes_a_write_or_a_delete",
    OverwritesWhatIsNotItsOwn: "what_is_unreadable_is_never_overwritten",
    TakesAnUnreadableKeyForAFreeOne: "what_is_unreadable_is_never_overwritten",
    NeverDeletesWhatIsNotItsOwn: "what_is_unreadable_may_be_deleted",
}


def named(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize(("broken", "by"), OF_THE_SEVEN_CALLS.items(), ids=named)
async def test_the_kit_catches_a_storage_that(broken: type[SevenCallStorage], by: str) -> None:
    clock = ManualClock()
    async with caught():
        await check_named(by)(seven_call_rig(broken(clock), clock))


# -- Opens, Clears, Purges


class OpeningStorage(MemoryStorage):
    capabilities = MemoryStorage.capabilities | {Opens}

    async def open(self) -> None: ...

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


class EmptiesItselfWhenOpenedAgain(OpeningStorage):
    async def open(self) -> None:
        await self.clear("")


class ChecksByWriting(OpeningStorage):
    async def check(self) -> None:
        if await self.create("probe", b"", 1000) is None:
            raise StorageUnavailable("the probe is still there")


class ClosesOnce(OpeningStorage):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise StorageError("closed already")
        self.closed = True


class NamesOneOwnerForAll(MemoryStorage):
    capabilities = MemoryStorage.capabilities | {SpreadsKeys}

    async def names_on_servers(self, new_name: Callable[[], str]) -> dict[str, tuple[str, str, str]]:
        owner = new_name()
        return {server: (new_name(), new_name(), owner) for server in ("first", "second")}


class ClearsTheNeighbours(MemoryStorage):
    async def clear(self, prefix: str) -> int:
        return await super().clear(prefix.rstrip(":"))


class ClearsByPattern(MemoryStorage):
    async def clear(self, prefix: str) -> int:
        every = self._table.keys("")  # pyright: ignore[reportPrivateUsage]
        return await self.delete(*fnmatch.filter(every, f"{prefix}*"))


class LeavesOwnersBehind(MemoryStorage):
    left: tuple[str, ...] = ()

    async def clear(self, prefix: str) -> int:
        self.left = (*self._table.keys(prefix),)
        return await super().clear(prefix)

    async def owned_keys(self, owner: str) -> list[str]:
        return [*await super().owned_keys(owner), *self.left]


class CountsNothing(MemoryStorage):
    async def clear(self, prefix: str) -> int:
        await super().clear(prefix)
        return 0


class ClearsWhatACheckUses(MemoryStorage):
    async def clear(self, prefix: str) -> int:
        return await self.delete(*self._table.keys(prefix))  # pyright: ignore[reportPrivateUsage]


class PurgesTheLiving(MemoryStorage):
    async def purge_expired(self) -> int:
        return await self.clear("")


class PurgesByAnOldList(MemoryStorage):
    async def purge_expired(self) -> int:
        every = self._table.keys("")  # pyright: ignore[reportPrivateUsage]
        expired = [key for key in every if await self.load(key) is None]
        await checkpoint()
        return await self.delete(*expired)


# -- AnswersNow


class AnswersWithoutDoingIt(MemoryStorage):
    def answer_now(self, call: Call) -> Reply:
        return 7 if isinstance(call, Replace) else super().answer_now(call)


class AnswersNoConflict(MemoryStorage):
    def answer_now(self, call: Call) -> Reply:
        reply = super().answer_now(call)
        return None if isinstance(call, Replace) and isinstance(reply, Stored) else reply


class AnswersATakenKeyAsGone(MemoryStorage):
    def answer_now(self, call: Call) -> Reply:
        try:
            return super().answer_now(call)
        except KeyTaken:
            return None


class DoesItAndSaysLater(MemoryStorage):
    told: tuple[type, ...] = (Create,)

    def answer_now(self, call: Call) -> Reply | Later:  # type: ignore[override]
        reply = super().answer_now(call)
        return LATER if isinstance(call, self.told) else reply  # pyright: ignore[reportReturnType]


class MovesItAndSaysLater(DoesItAndSaysLater):
    told = (Move,)


# -- LoadsMany


class LoadsManyInAnyOrder(MemoryStorage):
    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        return await super().load_many(sorted(keys))


class LeavesOutWhatIsMissing(MemoryStorage):
    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        return [stored for stored in await super().load_many(keys) if stored is not None]


class LoadsAFewAtOnce(MemoryStorage):
    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        return await super().load_many(keys[:500])


class FollowsTombstonesWhenItLoadsMany(MemoryStorage):
    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        loaded = await super().load_many(keys)
        return [await self.load(each.key) if isinstance(each, Moved) else each for each in loaded]


# -- KeepsTombstones


class TombstoneStorage(MemoryStorage):
    """Declares its capabilities anew for each subclass, which would lose them by overriding a call."""

    def __init_subclass__(cls) -> None:
        cls.capabilities = frozenset({Clears, KeepsTombstones, Purges})

    async def moved_to(self, key: str) -> str:
        found = await super().load(key)
        return await self.moved_to(found.key) if isinstance(found, Moved) else key


class LeavesNoTombstone(TombstoneStorage):
    async def move(self, key: str, new_key: str, *args: Any, tombstone: float = 0.0, **kwargs: Any) -> Any:
        return await super().move(key, new_key, *args, **kwargs)


class KeepsTombstonesForTooLong(TombstoneStorage):
    async def move(self, key: str, new_key: str, *args: Any, tombstone: float = 0.0, **kwargs: Any) -> Any:
        return await super().move(key, new_key, *args, tombstone=tombstone * 100, **kwargs)


class GivesTheDataToTheOldKey(TombstoneStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | None:
        return await super().load(await self.moved_to(key), renew=renew)


class RenewsBehindTheTombstone(TombstoneStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | None:
        await super().load(await self.moved_to(key), renew=renew)
        return await super().load(key)


class WritesBehindTheTombstone(TombstoneStorage):
    async def replace(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return await super().replace(await self.moved_to(key), *args, **kwargs)


class CreatesOverATombstone(TombstoneStorage):
    async def create(self, key: str, *args: Any, **kwargs: Any) -> int | None:
        self._table._tombstones.pop(key, None)  # pyright: ignore[reportPrivateUsage]
        return await super().create(key, *args, **kwargs)


class DeletesTheTombstoneAlone(TombstoneStorage):
    async def delete(self, *keys: str) -> int:
        live = [key for key in keys if isinstance(await self.load(key), Stored)]
        return await super().delete(*live)


class FollowsOneMoveOnly(TombstoneStorage):
    async def delete(self, *keys: str) -> int:
        found = [await self.load(key) for key in keys]
        once = [moved.key if isinstance(moved, Moved) else key for key, moved in zip(keys, found, strict=True)]
        return await super().delete(*[key for key in once if isinstance(await self.load(key), Stored)])


class DeletesWhereItWas(TombstoneStorage):
    async def delete(self, *keys: str) -> int:
        now = [await self.moved_to(key) for key in keys]
        await checkpoint()  # the record may move on meanwhile
        return await super().delete(*[key for key in now if isinstance(await self.load(key), Stored)])


class CountsTombstones(TombstoneStorage):
    async def clear(self, prefix: str) -> int:
        number = len(self._table.keys(prefix))
        await super().clear(prefix)
        return number


class KeepsTombstonesWhenCleared(TombstoneStorage):
    async def clear(self, prefix: str) -> int:
        keys = self._table.keys(prefix)
        return await super().delete(*[key for key in keys if isinstance(await self.load(key), Stored)])


OF_CAPABILITIES: dict[type[MemoryStorage], str] = {
    EmptiesItselfWhenOpenedAgain: "opening_again_has_no_effect",
    ChecksByWriting: "a_working_storage_passes_its_own_check",
    ClosesOnce: "closing_again_has_no_effect",
    NamesOneOwnerForAll: "each_server_gets_two_keys_and_an_owner",
    ClearsTheNeighbours: "clear_spares_the_neighbours",
    ClearsByPattern: "a_prefix_is_text_and_no_pattern",
    LeavesOwnersBehind: "clear_drops_owner_entries_and_only_its_own",
    CountsNothing: "clear_ends_what_begins_with_the_prefix",
    ClearsWhatACheckUses: "clear_leaves_what_a_check_uses_and_does_not_count_it",
    PurgesTheLiving: "purging_spares_the_living",
    PurgesByAnOldList: "a_purge_spares_what_is_made_anew_meanwhile",
    AnswersWithoutDoingIt: "a_call_answered_at_once_is_done",
    AnswersNoConflict: "an_answer_at_once_is_what_the_call_returns",
    AnswersATakenKeyAsGone: "a_move_onto_a_taken_key_is_refused_at_once_too",
    DoesItAndSaysLater: "later_means_that_nothing_was_done",
    LoadsManyInAnyOrder: "loading_many_returns_for_each_key_what_load_returns",
    LeavesOutWhatIsMissing: "loading_many_returns_for_each_key_what_load_returns",
    LoadsAFewAtOnce: "many_means_a_thousand",
    FollowsTombstonesWhenItLoadsMany: "loading_many_follows_no_tombstone",
    LeavesNoTombstone: "a_tombstone_says_where_the_record_is",
    KeepsTombstonesForTooLong: "a_tombstone_expires",
    GivesTheDataToTheOldKey: "a_tombstone_says_where_the_record_is",
    RenewsBehindTheTombstone: "loading_a_tombstone_renews_nothing",
    WritesBehindTheTombstone: "a_tombstone_is_no_record",
    CreatesOverATombstone: "a_tombstone_is_no_record",
    DeletesTheTombstoneAlone: "deleting_a_tombstone_ends_the_record",
    FollowsOneMoveOnly: "deleting_a_tombstone_ends_the_record",
    DeletesWhereItWas: "a_delete_that_races_moves_ends_the_record",
    CountsTombstones: "clearing_removes_tombstones_and_counts_records",
    KeepsTombstonesWhenCleared: "clearing_removes_tombstones_and_counts_records",
    MovesItAndSaysLater: "later_means_that_nothing_was_done",
}


@pytest.mark.parametrize(("broken", "by"), OF_CAPABILITIES.items(), ids=named)
async def test_the_kit_catches_a_capability_that(broken: Callable[..., MemoryStorage], by: str) -> None:
    clock = ManualClock()
    async with caught():
        await check_named(by)(manual_rig(broken(clock=clock), clock))


# -- BoundsCalls


class PromisesAndWaits(ServerStorage):
    def bound_calls(self, seconds: float) -> bool:
        return True


class TakesTheLastBound(ServerStorage):
    def bound_calls(self, seconds: float) -> bool:
        self.bound = seconds
        return True


class EndsWithAnErrorOfItsDriver(ServerStorage):
    async def find(self, key: str) -> Row | Unreadable | None:
        try:
            return await super().find(key)
        except StorageUnavailable as exc:
            raise TimeoutError from exc


class TakesTheBoundForAFault(ServerStorage):
    def bound_calls(self, seconds: float) -> bool:
        self.speaks = anyio.Event()
        self.bound = 0.01
        return True


OF_BOUNDED_CALLS: dict[type[ServerStorage], str] = {
    PromisesAndWaits: "a_call_without_an_answer_ends_in_time",
    TakesTheLastBound: "a_call_without_an_answer_ends_in_time",
    EndsWithAnErrorOfItsDriver: "a_call_without_an_answer_ends_in_time",
    TakesTheBoundForAFault: "bounded_calls_work_as_before",
}


@pytest.mark.parametrize(("broken", "by"), OF_BOUNDED_CALLS.items(), ids=named)
async def test_the_kit_catches_a_bound_that(broken: type[ServerStorage], by: str) -> None:
    clock = ManualClock()
    async with caught():
        await check_named(by)(seven_call_rig(broken(clock), clock))


@pytest.mark.parametrize(
    ("means", "name"),
    [("silence", "a_call_without_an_answer_ends_in_time"), ("make_unreadable", "what_is_unreadable_may_be_deleted")],
)
async def test_what_a_rig_cannot_bring_about_is_not_applicable(means: str, name: str) -> None:
    clock = ManualClock()
    rig = seven_call_rig(ServerStorage(clock), clock)
    fields: dict[str, Any] = {**structs.asdict(rig), means: None}
    with pytest.raises(NotApplicable, match=f"no `{means}`"):
        await check_named(name)(Rig(**fields))


async def test_a_storage_that_declines_to_bound_its_calls_is_not_judged_by_it() -> None:
    class Declines(ServerStorage):
        def bound_calls(self, seconds: float) -> bool:
            return False

    clock = ManualClock()
    with pytest.raises(NotApplicable, match="returned False"):
        await check_named("a_call_without_an_answer_ends_in_time")(seven_call_rig(Declines(clock), clock))
