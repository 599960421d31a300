"""The kit on capabilities: storages that break one promise each, and the checks that catch them."""

import fnmatch
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from msgspec import structs
from tests.storage.fault_rig import breaks, broken_by, caught, check_named
from tests.storage.rigs import ONE_LOOP, manual_rig
from tests.storage.seven_calls import Row, ServerStorage, seven_call_rig

from sessioncore import MemoryStorage, Moved, StorageError, StorageUnavailable, Stored, Unreadable
from sessioncore.storage import LATER, Call, Create, KeyTaken, Later, Move, Opens, Purges, Replace, Reply, SpreadsKeys
from sessioncore.testing import ManualClock, NotApplicable, Rig

pytestmark = [pytest.mark.anyio, ONE_LOOP]

Loaded = list[Stored | Moved | Unreadable | None]


class Faults(MemoryStorage):
    capabilities = MemoryStorage.capabilities | {Opens, SpreadsKeys}
    closed = False

    async def moved_to(self, key: str) -> str:
        found = await super().load(key)
        return await self.moved_to(found.key) if isinstance(found, Moved) else key

    async def records(self, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if isinstance(await self.load(key), Stored)]

    # -- Opens, SpreadsKeys, Clears, Purges

    @breaks("open", "opening_again_has_no_effect")
    async def empties_itself_when_opened_again(self) -> None:
        await self.clear("")

    @breaks("check", "a_working_storage_passes_its_own_check")
    async def checks_by_writing(self) -> None:
        if await self.create("probe", b"", 1000) is None:
            raise StorageUnavailable("the probe is still there")

    @breaks("aclose", "closing_again_has_no_effect")
    async def closes_once(self) -> None:
        if self.closed:
            raise StorageError("closed already")
        self.closed = True

    @breaks("aclose", "closing_again_has_no_effect")
    async def closes_for_good(self) -> None:
        async def create(*_: Any, **__: Any) -> None: ...

        vars(self)["create"] = create

    @breaks("names_on_servers", "each_server_gets_two_keys_and_an_owner")
    async def names_one_owner_for_all(self, new_name: Callable[[], str]) -> dict[str, tuple[str, str, str]]:
        return {server: (new_name(), new_name(), owner) for owner in [new_name()] for server in ("first", "second")}

    @breaks("clear", "clear_leaves_other_prefixes_alone")
    async def clears_the_neighbours(self, prefix: str) -> int:
        return await super().clear(prefix.rstrip(":"))

    @breaks("clear", "a_prefix_is_text_and_no_pattern")
    async def clears_by_pattern(self, prefix: str) -> int:
        return await self.delete(*fnmatch.filter(self._table.keys(""), f"{prefix}*"))

    @breaks("clear", "a_key_may_be_made_anew_after_clear")
    async def counts_versions_from_the_beginning(self, prefix: str) -> int:
        number = await super().clear(prefix)
        self._table._versions = itertools.count(1)  # pyright: ignore[reportPrivateUsage]
        return number

    @breaks("clear", "clear_ends_what_begins_with_the_prefix")
    async def counts_nothing(self, prefix: str) -> int:
        return 0 * await super().clear(prefix)

    @breaks("clear", "clear_leaves_what_a_check_uses_and_does_not_count_it")
    async def clears_what_a_check_uses(self, prefix: str) -> int:
        return await self.delete(*self._table.keys(prefix))

    @breaks("create", "clear_drops_owner_entries_and_only_its_own")
    async def remembers_the_owner_of_a_key(self, key: str, *args: Any, owner: str | None = None) -> int | None:
        return await super().create(key, *args, owner=vars(self).setdefault(key, owner))

    @breaks("purge_expired", "purging_leaves_live_records_alone")
    async def purges_the_living(self) -> int:
        return await self.clear("")

    @breaks("purge_expired", "purging_leaves_live_records_alone", "purging_does_not_count_tombstones")
    async def purges_nothing_and_counts_it(self) -> int:
        return 6

    @breaks("purge_expired", "a_purge_spares_what_is_made_anew_meanwhile")
    async def purges_by_an_old_list(self) -> int:
        expired = [key for key in self._table.keys("") if await self.load(key) is None]
        await checkpoint()
        return await self.delete(*expired)

    # -- Scans

    @breaks("scan", "scanning_lists_what_begins_with_the_prefix")
    async def lists_what_a_check_uses(self, prefix: str) -> AsyncGenerator[list[str]]:
        yield await self.records(self._table.keys(prefix))

    @breaks("scan", "scanning_lists_what_begins_with_the_prefix")
    async def lists_by_pattern(self, prefix: str) -> AsyncGenerator[list[str]]:
        yield fnmatch.filter([key async for batch in super().scan("") for key in batch], f"{prefix}*")

    @breaks("scan", "scanning_lists_no_expired_record")
    async def lists_the_expired(self, prefix: str) -> AsyncGenerator[list[str]]:
        yield self._table.keys(prefix)

    @breaks("scan", "scanning_lists_no_tombstone")
    async def lists_tombstones(self, prefix: str) -> AsyncGenerator[list[str]]:
        yield self._table.keys(prefix)

    @breaks("scan", "scanning_lists_many_records_a_batch_at_a_time")
    async def lists_all_at_once(self, prefix: str) -> AsyncGenerator[list[str]]:
        yield [key async for batch in super().scan(prefix) for key in batch]

    @breaks("scan", "scanning_lists_many_records_a_batch_at_a_time")
    async def goes_on_by_number(self, prefix: str) -> AsyncGenerator[list[str]]:
        for start in range(0, 2000, 500):
            yield self._table.keys(prefix)[start : start + 500]

    # -- AnswersNow

    @breaks("answer_now", "a_call_answered_at_once_is_done")
    def answers_without_doing_it(self, call: Call) -> Reply:
        return 7 if isinstance(call, Replace) else super().answer_now(call)

    @breaks("answer_now", "an_answer_at_once_is_what_the_call_returns")
    def answers_no_conflict(self, call: Call) -> Reply:
        reply = super().answer_now(call)
        return None if isinstance(call, Replace) and isinstance(reply, Stored) else reply

    @breaks("answer_now", "a_move_onto_a_taken_key_is_refused_at_once_too")
    def answers_a_taken_key_as_gone(self, call: Call) -> Reply:
        try:
            return super().answer_now(call)
        except KeyTaken:
            return None

    @breaks("answer_now", "later_means_that_nothing_was_done")
    def creates_and_says_later(self, call: Call) -> Reply | Later:
        reply = super().answer_now(call)
        return LATER if isinstance(call, Create) else reply

    @breaks("answer_now", "later_means_that_nothing_was_done")
    def moves_and_says_later(self, call: Call) -> Reply | Later:
        reply = super().answer_now(call)
        return LATER if isinstance(call, Move) else reply

    # -- LoadsMany

    @breaks("load_many", "loading_many_returns_for_each_key_what_load_returns")
    async def loads_many_in_any_order(self, keys: Sequence[str]) -> Loaded:
        return await super().load_many(sorted(keys))

    @breaks("load_many", "loading_many_returns_for_each_key_what_load_returns")
    async def leaves_out_what_is_missing(self, keys: Sequence[str]) -> Loaded:
        return [stored for stored in await super().load_many(keys) if stored is not None]

    @breaks("load_many", "a_thousand_records_are_loaded_in_one_call")
    async def loads_a_few_at_once(self, keys: Sequence[str]) -> Loaded:
        return await super().load_many(keys[:500])

    @breaks("load_many", "loading_many_follows_no_tombstone")
    async def follows_tombstones_when_it_loads_many(self, keys: Sequence[str]) -> Loaded:
        loaded = await super().load_many(keys)
        return [await self.load(each.key) if isinstance(each, Moved) else each for each in loaded]

    # -- KeepsTombstones

    @breaks("move", "a_tombstone_says_where_the_record_is")
    async def leaves_no_tombstone(self, *args: Any, tombstone: float = 0.0, **more: Any) -> Any:
        return await super().move(*args, **more)

    @breaks("move", "a_tombstone_expires")
    async def keeps_tombstones_for_too_long(self, *args: Any, tombstone: float = 0.0, **more: Any) -> Any:
        return await super().move(*args, tombstone=tombstone * 100, **more)

    @breaks("move", "without_a_tombstone_the_old_key_is_free")
    async def always_leaves_a_tombstone(self, *args: Any, tombstone: float = 0.0, **more: Any) -> Any:
        return await super().move(*args, tombstone=tombstone or 60, **more)

    @breaks("move", "a_tombstone_outlives_its_record")
    async def lets_a_tombstone_end_with_the_record(self, *args: Any, tombstone: float = 0.0, **more: Any) -> Any:
        return await super().move(*args, tombstone=min(tombstone, args[3]), **more)

    @breaks("move", "a_conflicting_or_refused_move_leaves_no_tombstone")
    async def moves_elsewhere_when_refused(self, key: str, new_key: str, *args: Any, **more: Any) -> Any:
        try:
            return await super().move(key, new_key, *args, **more)
        except KeyTaken:
            await super().move(key, f"{new_key}2", *args, **more)
            raise

    @breaks("load", "a_tombstone_says_where_the_record_is")
    async def gives_the_data_to_the_old_key(self, key: str, *, renew: float | None = None) -> Any:
        return await super().load(await self.moved_to(key), renew=renew)

    @breaks("load", "loading_a_tombstone_renews_nothing")
    async def renews_behind_the_tombstone(self, key: str, *, renew: float | None = None) -> Any:
        await super().load(await self.moved_to(key), renew=renew)
        return await super().load(key)

    @breaks("replace", "a_tombstone_is_no_record")
    async def writes_behind_the_tombstone(self, key: str, *args: Any, **more: Any) -> Any:
        return await super().replace(await self.moved_to(key), *args, **more)

    @breaks("create", "a_tombstone_is_no_record")
    async def creates_over_a_tombstone(self, key: str, *args: Any, **more: Any) -> int | None:
        self._table._tombstones.by_key.pop(key, None)  # pyright: ignore[reportPrivateUsage]
        return await super().create(key, *args, **more)

    @breaks("delete", "deleting_a_tombstone_ends_the_record", "an_end_through_a_former_key_is_reported")
    async def deletes_the_tombstone_alone(self, *keys: str) -> int:
        return await super().delete(*await self.records(keys))

    @breaks("delete", "deleting_a_tombstone_ends_the_record", "deleting_counts_a_moved_record_once")
    async def follows_one_move_only(self, *keys: str) -> int:
        found = [await self.load(key) for key in keys]
        once = [moved.key if isinstance(moved, Moved) else key for key, moved in zip(keys, found, strict=True)]
        return await super().delete(*await self.records(once))

    @breaks("delete", "a_delete_that_races_moves_ends_the_record")
    async def deletes_where_it_was(self, *keys: str) -> int:
        now = [await self.moved_to(key) for key in keys]
        await checkpoint()  # the record may move on meanwhile
        return await super().delete(*await self.records(now))

    @breaks("clear", "clearing_removes_tombstones_and_counts_records", "clear_ends_what_begins_with_the_prefix")
    async def counts_what_is_not_live(self, prefix: str) -> int:
        number = len(self._table.keys(prefix))
        await super().clear(prefix)
        return number

    @breaks("clear", "clearing_removes_tombstones_and_counts_records")
    async def keeps_tombstones_when_cleared(self, prefix: str) -> int:
        return await super().delete(*await self.records(self._table.keys(prefix)))


@pytest.mark.parametrize(("broken", "by"), broken_by(Faults))
async def test_the_kit_catches_a_capability_that(broken: Callable[..., MemoryStorage], by: str) -> None:
    clock = ManualClock()
    async with caught():
        await check_named(by)(manual_rig(broken(clock=clock), clock))


async def test_the_kit_catches_a_purge_that_removes_what_is_unreadable() -> None:
    class Purging(ServerStorage):
        capabilities = ServerStorage.capabilities | {Purges}

        async def purge_expired(self) -> int:
            self.rows = {key: row for key, row in self.rows.items() if isinstance(row, Row)}
            return 0

    clock = ManualClock()
    async with caught():
        await check_named("what_is_unreadable_is_never_overwritten")(seven_call_rig(Purging(clock), clock))


async def test_a_delete_may_come_before_a_move_to_the_key_that_it_names() -> None:
    class MovesLate(MemoryStorage):
        async def move(self, *args: Any, **options: Any) -> Any:
            for _ in range(2):
                await checkpoint()
            return await super().move(*args, **options)

    clock = ManualClock()
    await check_named("a_delete_that_races_moves_ends_the_record")(manual_rig(MovesLate(clock=clock), clock))


@pytest.mark.parametrize(
    ("means", "name"),
    [("silence", "a_call_without_an_answer_ends_in_time"), ("make_unreadable", "what_is_unreadable_may_be_deleted")],
)
async def test_what_a_rig_cannot_bring_about_is_not_applicable(means: str, name: str) -> None:
    clock = ManualClock()
    fields: dict[str, Any] = {**structs.asdict(seven_call_rig(ServerStorage(clock), clock)), means: None}
    with pytest.raises(NotApplicable, match=f"no `{means}`"):
        await check_named(name)(Rig(**fields))


async def test_a_storage_that_declines_to_bound_its_calls_is_not_judged_by_it() -> None:
    class Declines(ServerStorage):
        def bound_calls(self, seconds: float) -> bool:
            return False

    clock = ManualClock()
    with pytest.raises(NotApplicable, match="returned False"):
        await check_named("a_call_without_an_answer_ends_in_time")(seven_call_rig(Declines(clock), clock))
