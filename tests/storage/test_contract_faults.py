"""The kit on the seven calls: a storage with one wrong piece of code, and the checks that catch it."""

import inspect
import textwrap
from typing import Any

import pytest
from tests.storage import seven_calls
from tests.storage.fault_rig import caught, check_named
from tests.storage.rigs import ONE_LOOP
from tests.storage.seven_calls import ServerStorage, SevenCallStorage, seven_call_rig

from sessioncore.testing import ManualClock

pytestmark = [pytest.mark.anyio, ONE_LOOP]

SWALLOWS = {"async with": "try: await checkpoint()\n    except BaseException: return None\n    async with"}
WITHOUT_LOCK = {"async with self._lock:": "if True:"}  # a record that was found may change before the write

# The function, what is wrong in it, and the checks that must notice it.
FAULTS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    # what is stored, and until when
    "takes a taken key": ("create", {" if await self.find(key) is None else None": ""}, [
        "create_refuses_a_taken_key", "one_of_many_parallel_creates_wins"]),
    "shows another version": ("shown", {"row.version": "row.version + 1"}, ["what_was_created_is_loaded"]),
    "cuts at NUL": ("put", {"Row(data,": "Row(data.split(bytes(1))[0],"}, ["data_comes_back_byte_for_byte"]),
    "cuts at 64 KiB": ("put", {"Row(data,": "Row(data[: 1 << 16],"}, ["a_mebibyte_comes_back_whole"]),
    "folds letters": ("put", {"self.rows[key]": "self.rows[key.lower()]"}, ["odd_keys_are_kept_apart"]),
    "loads once": ("load", {"return": "self.rows.pop(key, None); return"}, ["loading_changes_nothing"]),
    "loses the days": ("put", {"+ ttl": "+ ttl % 86400"}, ["a_ttl_is_kept_exactly"]),
    "rounds to seconds": ("put", {"+ ttl": "+ max(1, int(ttl))"}, [
        "a_ttl_is_not_rounded_to_seconds", "a_tiny_ttl_is_neither_an_error_nor_endless"]),
    "keeps its end": ("replace", {"data, ttl,": "data, row.ends - self.clock(),"}, ["replace_and_move_set_the_ttl"]),
    "keeps the expired": ("find", {" if row.ends > self.clock() else None": ""}, [
        "a_record_ends_with_its_ttl", "an_expired_key_is_free_again", "nothing_works_on_an_expired_record",
        "a_move_onto_an_expired_key_works", "an_expired_key_is_not_listed", "a_key_made_anew_has_its_new_owner_only"]),
    "renews": ("load", {"renew is not None": "(renew := renew or 1000)"}, ["plain_loading_leaves_the_ttl_alone"]),
    "numbers": ("load", {"row.version": "next(self._versions)"}, ["loading_with_renew_sets_the_ttl_and_only_that"]),
    "shows the old ttl": ("load", {"row = self.rows[key] =": "self.rows[key] ="}, [
        "loading_with_renew_sets_the_ttl_and_only_that"]),
    "revives by renewal": ("load", {"isinstance(row, Row)": "(row := row or Row(b'', 0, 0, None))"}, [
        "loading_with_renew_revives_nothing", "a_missing_key_loads_nothing"]),
    "touches in vain": ("touch", {", renew=ttl": ""}, [
        "touch_lengthens_and_shortens", "a_lengthened_record_outlives_its_first_end", "a_shortened_record_ends_early",
        "a_lengthened_record_stays_listed"]),
    "revives by touch": ("touch", {"return": "return await self.create(key, b'', ttl) is not None or"}, [
        "touching_a_missing_key_makes_nothing"]),
    "drops the owner": ("load", {"row.owner": "None"}, ["touching_and_loading_leave_the_owner_alone"]),
    # writes
    "ignores the version": ("replace", {" or row.version != version": ""}, [
        "a_conflict_returns_the_current_record_and_changes_nothing"]),
    "hides the conflict": ("replace", {"return self.shown(row)": "return None"}, [
        "a_conflict_returns_the_current_record_and_changes_nothing"]),
    "creates by replace": ("replace", {"self.shown(row)": "self.shown(row) or self.put(key, data, ttl, owner)"}, [
        "replace_creates_nothing", "after_delete_returned_no_writer_brings_it_back"]),
    "writes what is new only": ("replace", {"return self.put": "return version if row.data == data else self.put"}, [
        "replace_writes_data_under_a_new_version"]),
    "keeps the owner": ("replace", {"owner)\n": "owner or row.owner)\n"}, [
        "a_write_without_an_owner_removes_the_owner"]),
    "counts versions per key": ("put", {"next(self._versions)": "getattr(self.rows.get(key), 'version', 0) + 1"}, [
        "an_old_version_never_matches_a_new_record", "versions_do_not_return_by_expiry_or_move",
        "after_a_move_the_old_key_is_free"]),
    "copies instead of moving": ("move", {"del self.rows[key]": "pass"}, [
        "move_gives_the_record_a_new_key", "a_move_lists_the_new_key_and_not_the_old",
        "odd_keys_may_be_replaced_and_moved"]),
    "creates by move": ("move", {"self.shown(row)": "self.shown(row) or self.put(new_key, data, ttl, owner)"}, [
        "moving_a_missing_record_makes_nothing"]),
    "moves any version": ("move", {" or row.version != version": ""}, ["a_conflicting_move_changes_nothing"]),
    "moves onto a taken key": ("move", {"await self.find(new_key) is not None": "False"}, [
        "a_move_onto_a_taken_key_is_refused", "one_of_many_parallel_moves_onto_one_key_wins"]),
    "moves onto itself": ("move", {"if await self.find(new_key)": "if key != new_key and await self.find(new_key)"}, [
        "a_move_onto_itself_is_refused"]),
    "leaves it open": ("move", {"StorageError(": "StorageUnavailable("}, ["a_move_onto_a_taken_key_is_refused"]),
    "forgets the owner": ("move", {"ttl, owner)": "ttl, None)"}, [
        "create_replace_and_move_name_the_owner", "a_record_may_get_another_owner"]),
    # ends and owners
    "counts every key named": ("delete", {"len(live)": "len(keys)"}, [
        "deleting_returns_how_many_were_live", "deleting_again_or_nothing_is_no_error",
        "many_keys_are_deleted_in_one_call"]),
    "counts a key twice": ("delete", {"dict.fromkeys(keys)": "keys"}, ["a_key_named_twice_is_deleted_once"]),
    "deletes nothing": ("delete", {"self.rows.pop(key, None)": "pass"}, ["a_deleted_key_is_not_listed"]),
    "deletes what begins alike": ("delete", {
        "self.rows.pop(key, None)": "self.rows = {other: row for other, row in self.rows.items() if key not in other}"
    }, ["deleting_one_odd_key_spares_the_others"]),
    "deletes for an owner of that name": ("delete", {
        "self.rows.pop(key, None)": "self.rows = {k: row for k, row in self.rows.items() if key not in (k, row.owner)}"
    }, ["owners_and_keys_of_the_same_text_do_not_collide"]),
    "takes None for a name": ("owned_keys", {"row.owner ==": "str(row.owner) =="}, ["an_unknown_owner_has_no_keys"]),
    "lists twice": ("owned_keys", {"return": "return 2 *"}, ["an_owner_named_again_is_listed_once"]),
    "lists a hundred": ("owned_keys", {"== owner]": "== owner][:100]"}, ["an_owner_may_have_many_keys"]),
    "lists the expired": ("owned_keys", {"await self.find(key)": "self.rows[key]"}, ["an_expired_key_is_not_listed"]),
    "lists what begins alike": ("owned_keys", {"row.owner == owner": "(row.owner or '').startswith(owner)"}, [
        "odd_owners_are_kept_apart"]),
    # among parallel and cancelled callers
    "replaces in two steps": ("replace", WITHOUT_LOCK, [
        "one_of_many_parallel_replaces_wins", "parallel_increments_lose_nothing",
        "after_delete_returned_no_writer_brings_it_back"]),
    "moves in two steps": ("move", {**WITHOUT_LOCK, "del self.rows[key]": "self.rows.pop(key, None)"}, [
        "one_of_many_parallel_moves_wins", "a_move_and_a_replace_do_not_both_win"]),
    "renews in two steps": ("load", {**WITHOUT_LOCK, "self.find(key)": "self.find(key); await anyio.sleep(0.001)"}, [
        "a_renewal_never_undoes_a_write_or_a_delete"]),
    "writes the others back": ("delete", {
        **WITHOUT_LOCK, "self.rows.pop": "self.rows, _ = {**self.rows}, await checkpoint(); self.rows.pop"
    }, ["an_owner_gains_and_loses_keys_in_parallel"]),
    "drops before it moves": ("move", {"del self.rows[key]": "del self.rows[key]; await anyio.sleep(0.001)"}, [
        "a_cancelled_move_leaves_before_or_after"]),
    "swallows the cancellation of a move": ("move", SWALLOWS, ["a_cancelled_move_leaves_before_or_after"]),
    "swallows a cancellation": ("replace", SWALLOWS, ["a_cancelled_replace_leaves_before_or_after"]),
    "writes the version first": ("replace", {
        "return self.put": "self.put(key, row.data, ttl, owner); await anyio.sleep(0.001); return self.put"
    }, ["a_cancelled_replace_leaves_before_or_after"]),
    # what cannot be read
    "overwrites it": ("replace", {"not isinstance(row, Row) or": "isinstance(row, Row) and"}, [
        "what_is_unreadable_is_never_overwritten"]),
    "takes it for nothing": ("find", {"else Unreadable()": "else None"}, ["what_is_unreadable_is_never_overwritten"]),
    "deletes its own only": ("delete", {"pop(key, None)": "get(key) in live"}, ["what_is_unreadable_may_be_deleted"]),
    # bounds
    "waits": ("bound_calls", {"min(self.bound, seconds)": "60.0"}, ["a_call_without_an_answer_ends_in_time"]),
    "is lax": ("bound_calls", {"min(self.bound, seconds)": "seconds"}, ["a_call_without_an_answer_ends_in_time"]),
    "is always late": ("bound_calls", {"min(self.bound, seconds)": "0; self.speaks = anyio.Event()"}, [
        "bounded_calls_work_as_before"]),
    "raises": ("hear", {"raise StorageUnavailable": "raise TimeoutError"}, ["a_call_without_an_answer_ends_in_time"]),
}  # fmt: skip


def broken(function: str, faults: dict[str, str]) -> Any:
    """The storage with these faults in this function."""
    storage = SevenCallStorage if function in vars(SevenCallStorage) else ServerStorage
    code = textwrap.dedent(inspect.getsource(getattr(storage, function)))
    for right, wrong in faults.items():
        assert right in code
        code = code.replace(right, wrong)
    members: dict[str, Any] = {}
    exec(code, {**vars(seven_calls)}, members)
    return type("Broken", (storage,), members)


@pytest.mark.parametrize(("fault", "by"), [(fault, check) for fault in FAULTS for check in FAULTS[fault][2]])
async def test_the_kit_catches_a_storage_that(fault: str, by: str) -> None:
    clock = ManualClock()
    storage = broken(*FAULTS[fault][:2])(clock)
    async with caught():
        await check_named(by)(seven_call_rig(storage, clock))
