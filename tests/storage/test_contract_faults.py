"""The kit at work on the seven calls: storages that break one promise each, and the check by which each is caught."""

from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from tests.storage.fault_rig import breaks, broken_by, caught, check_named
from tests.storage.rigs import ONE_LOOP
from tests.storage.seven_calls import Row, SevenCallStorage, seven_call_rig

from sessioncore import StorageError, StorageUnavailable
from sessioncore.storage import KeyTaken, Stored, Unreadable
from sessioncore.testing import ManualClock

pytestmark = [pytest.mark.anyio, ONE_LOOP]


class Faults(SevenCallStorage):
    capabilities: frozenset[type] = frozenset()

    def row(self, key: str) -> Row | None:
        found = self.rows.get(key)
        return found if isinstance(found, Row) else None

    # -- what is stored, and until when

    @breaks("create", "create_refuses_a_taken_key")
    async def takes_a_taken_key(self, key: str, data: bytes, ttl: float, owner: str | None = None) -> int:
        return self.put(key, data, ttl, owner)

    @breaks("put", "a_ttl_is_kept_exactly")
    def loses_the_days(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        return super().put(key, data, ttl if ttl < 86400 else ttl % 86400 + 1, owner)

    @breaks("put", "a_ttl_is_not_rounded_to_seconds")
    def rounds_to_seconds(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        return super().put(key, data, max(1, int(ttl)), owner)

    @breaks("replace", "replace_and_move_set_the_ttl")
    async def keeps_the_first_end(self, key: str, data: bytes, ttl: float, **more: Any) -> Any:
        row = self.row(key)
        return await super().replace(key, data, row.ends - self.clock() if row else ttl, **more)

    @breaks("find", "a_record_ends_with_its_ttl")
    async def keeps_the_expired(self, key: str) -> Row | Unreadable | None:
        await checkpoint()
        return self.row(key) or await super().find(key)

    @breaks("load", "plain_loading_leaves_the_ttl_alone")
    async def renews_by_every_load(self, key: str, *, renew: float | None = None) -> Any:
        return await super().load(key, renew=renew or 1000)

    @breaks("load", "loading_with_renew_sets_the_ttl_and_only_that")
    async def renews_the_version(self, key: str, *, renew: float | None = None) -> Any:
        found = await super().load(key)
        if renew is not None and isinstance(found, Stored):
            self.put(key, found.data, renew, None)
        return await super().load(key)

    @breaks("load", "loading_with_renew_sets_the_ttl_and_only_that")
    async def shows_the_ttl_before_the_renewal(self, key: str, *, renew: float | None = None) -> Any:
        before = await super().load(key)
        await super().load(key, renew=renew)
        return before

    @breaks("load", "loading_with_renew_revives_nothing")
    async def revives_by_renewal(self, key: str, *, renew: float | None = None) -> Any:
        if renew is not None and await self.find(key) is None:
            self.put(key, b"", renew, None)
        return await super().load(key, renew=renew)

    @breaks("touch", "touching_a_missing_key_makes_nothing")
    async def revives_by_touch(self, key: str, ttl: float) -> bool:
        return await super().touch(key, ttl) or await self.create(key, b"", ttl) is not None

    @breaks("touch", "touching_and_loading_leave_the_owner_alone")
    async def drops_the_owner_by_touch(self, key: str, ttl: float) -> bool:
        found = await self.load(key, renew=ttl)
        if isinstance(found, Stored):
            self.rows[key] = Row(found.data, found.version, self.clock() + ttl, None)
        return found is not None

    # -- writes

    @breaks("replace", "a_conflict_returns_the_current_record_and_changes_nothing")
    async def ignores_the_version(self, key: str, data: bytes, ttl: float, owner: str | None = None, **_: int) -> Any:
        return self.put(key, data, ttl, owner) if await self.load(key) else None

    @breaks("replace", "a_conflict_returns_the_current_record_and_changes_nothing")
    async def hides_the_conflict(self, *args: Any, **more: Any) -> int | None:
        result = await super().replace(*args, **more)
        return result if isinstance(result, int) else None

    @breaks("replace", "replace_creates_nothing")
    async def creates_by_replace(self, *args: Any, version: int, owner: str | None = None) -> Any:
        result = await super().replace(*args, version=version, owner=owner)
        return await self.create(*args, owner=owner) if result is None else result

    @breaks("replace", "no_owner_named_means_no_owner_any_more")
    async def keeps_the_owner_that_is_not_named(self, key: str, *args: Any, owner: str | None = None, **at: Any) -> Any:
        row = self.row(key)
        return await super().replace(key, *args, owner=owner or (row.owner if row else None), **at)

    @breaks("put", "an_old_version_never_matches_a_new_record")
    def counts_versions_per_key(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        row = self.row(key)
        self.rows[key] = Row(data, row.version + 1 if row else 1, self.clock() + ttl, owner)
        return row.version + 1 if row else 1

    @breaks("move", "move_gives_the_record_a_new_key")
    async def copies_instead_of_moving(self, key: str, new_key: str, *args: Any, version: int, **owner: Any) -> Any:
        result = await self.replace(key, *args, version=version, **owner)
        return await self.create(new_key, *args, **owner) if isinstance(result, int) else result

    @breaks("move", "a_conflicting_move_changes_nothing")
    async def moves_whatever_the_version(self, key: str, *args: Any, version: int, **owner: Any) -> Any:
        found = await self.load(key)
        now = found.version if isinstance(found, Stored) else version
        return await super().move(key, *args, version=now, **owner)

    @breaks("move", "a_move_onto_a_taken_key_is_refused")
    async def moves_onto_a_taken_key(self, key: str, new_key: str, *args: Any, **more: Any) -> Any:
        if new_key != key:
            self.rows.pop(new_key, None)
        return await super().move(key, new_key, *args, **more)

    @breaks("move", "a_move_onto_itself_is_refused")
    async def moves_onto_itself(self, key: str, new_key: str, *args: Any, **more: Any) -> Any:
        if key == new_key:
            return await self.replace(key, *args, **more)
        return await super().move(key, new_key, *args, **more)

    @breaks("move", "a_move_onto_a_taken_key_is_refused")
    async def leaves_a_collision_open(self, *args: Any, **more: Any) -> Any:
        try:
            return await super().move(*args, **more)
        except StorageError as exc:
            raise StorageUnavailable("something went wrong") from exc

    @breaks("move", "create_replace_and_move_name_the_owner")
    async def forgets_the_owner_of_a_move(self, *args: Any, version: int, **_: str | None) -> Any:
        return await super().move(*args, version=version)

    # -- ends and owners

    @breaks("delete", "deleting_returns_how_many_were_live")
    async def counts_every_key_named(self, *keys: str) -> int:
        await super().delete(*keys)
        return len(keys)

    @breaks("owned_keys", "an_expired_key_is_not_listed")
    async def lists_the_expired(self, owner: str) -> list[str]:
        return [key for key in self.rows if (row := self.row(key)) and row.owner == owner]

    @breaks("owned_keys", "odd_owners_are_kept_apart")
    async def lists_by_the_beginning_of_a_name(self, owner: str) -> list[str]:
        return [key for key in self.rows if (row := self.row(key)) and (row.owner or "").startswith(owner)]

    # -- among parallel callers: a second trip lets the lock of the first one go

    @breaks("replace", "of_parallel_replaces_one_wins")
    async def replaces_in_two_steps(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Any:
        found = await self.load(key)
        if not isinstance(found, Stored) or found.version != version:
            return found
        await self.load(key)
        return self.put(key, data, ttl, owner)

    @breaks("move", "of_parallel_moves_one_wins")
    async def moves_in_two_steps(self, key: str, new_key: str, *args: Any, version: int, **owner: Any) -> Any:
        found = await self.load(key)
        if not isinstance(found, Stored) or found.version != version:
            return found
        new = await self.create(new_key, *args, **owner)
        if new is None:
            raise KeyTaken("the new key is taken")
        await self.delete(key)
        return new

    @breaks("replace", "after_delete_returned_no_writer_brings_it_back")
    async def revives_by_a_late_write(
        self, key: str, data: bytes, ttl: float, owner: str | None = None, **_: int
    ) -> Any:
        found = await self.load(key)
        await self.load(key)
        return None if found is None else self.put(key, data, ttl, owner)

    @breaks("replace", "after_delete_returned_no_writer_brings_it_back")
    async def creates_by_every_late_write(self, *args: Any, **more: Any) -> Any:
        return await self.creates_by_replace(*args, **more)

    @breaks("touch", "a_renewal_never_undoes_a_write_or_a_delete")
    async def renews_by_writing_back(self, key: str, ttl: float) -> bool:
        found = await self.load(key)
        await self.load(key)
        if isinstance(found, Stored):
            self.rows[key] = Row(found.data, found.version, self.clock() + ttl, None)
        return found is not None

    # -- what cannot be read

    @breaks("replace", "what_is_unreadable_is_never_overwritten")
    async def overwrites_what_is_not_its_own(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Any:
        if isinstance(await self.find(key), Unreadable):
            return self.put(key, data, ttl, owner)
        return await super().replace(key, data, ttl, version=version, owner=owner)

    @breaks("find", "what_is_unreadable_is_never_overwritten")
    async def takes_an_unreadable_key_for_a_free_one(self, key: str) -> Row | None:
        found = await super().find(key)
        return found if isinstance(found, Row) else None

    @breaks("delete", "what_is_unreadable_may_be_deleted")
    async def never_deletes_what_is_not_its_own(self, *keys: str) -> int:
        return await super().delete(*[key for key in keys if isinstance(await self.find(key), Row)])


@pytest.mark.parametrize(("broken", "by"), broken_by(Faults))
async def test_the_kit_catches_a_storage_that(broken: type[Faults], by: str) -> None:
    clock = ManualClock()
    async with caught():
        await check_named(by)(seven_call_rig(broken(clock), clock))
