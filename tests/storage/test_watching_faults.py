"""Faults in the watching of memory, SQLite and PostgreSQL, each planted in the real storage and caught by the kit."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from servers.postgres_server import PostgresServer
from tests.storage.fault_rig import breaks, broken_by, caught, check_named
from tests.storage.postgres_rigs import postgres_rig
from tests.storage.rigs import ONE_LOOP, RIGS, manual_rig

from sessioncore import MemoryStorage, SQLiteStorage, Unreadable
from sessioncore._watchers import Changed, Held, Watchers
from sessioncore.storage.sqlite import _file_changes
from sessioncore.storage.sqlite._records import Records
from sessioncore.testing import ManualClock, Rig

pytestmark = [pytest.mark.anyio, ONE_LOOP]


watch, load_many = SQLiteStorage.watch, SQLiteStorage.load_many
compare, state_of, held = Watchers.compare, _file_changes._state_of, Records.held  # pyright: ignore[reportPrivateUsage]


def compares_no_version(self: Watchers, keys: Iterable[str], now: Mapping[str, Held]) -> None:
    compare(self, [key for key in keys if key not in now], now)


def overlooks_the_deleted(self: Watchers, keys: Iterable[str], now: Mapping[str, Held]) -> None:
    compare(self, [key for key in keys if key in now], now)


def overlooks_tombstones(self: Watchers, keys: Iterable[str], now: Mapping[str, Held]) -> None:
    compare(self, [key for key in keys if not isinstance(now.get(key), str)], now)


def remembers_the_state_for_ever() -> Callable[[Any], tuple[object, ...]]:
    states: list[tuple[object, ...]] = []

    def state(connection: Any) -> tuple[object, ...]:
        states.append(state_of(connection))
        return states[0]

    return state


async def asks_the_connection_that_writes(self: SQLiteStorage) -> None:
    async def read(work: Any, *args: Any) -> Any:
        return await (self._file.write if work is state_of else self._file.read)(work, *args)  # pyright: ignore[reportPrivateUsage]

    await self._changes.confirm(read)  # pyright: ignore[reportPrivateUsage]


async def watches_after_it_has_looked(self: SQLiteStorage, keys: Sequence[str], changed: Changed) -> Any:
    found = await self.load_many(keys)
    await anyio.sleep(0.05)
    await watch(self, keys, changed)
    return found


async def leaves_out_what_cannot_be_read(self: SQLiteStorage, keys: Sequence[str]) -> list[object]:
    return [None if found == Unreadable() else found for found in await load_many(self, keys)]


TOLD_ONCE = "every_change_of_a_watched_key_is_reported_once"
TOMBSTONE = "a_move_that_leaves_a_tombstone_is_reported"
UNREADABLE = "loading_many_returns_what_is_unreadable_as_such"
COMPARING: dict[str, tuple[object, str, object, str]] = {
    "compares no version": (Watchers, "compare", compares_no_version, TOLD_ONCE),
    "overlooks the deleted": (Watchers, "compare", overlooks_the_deleted, TOLD_ONCE),
    "overlooks tombstones": (Watchers, "compare", overlooks_tombstones, TOMBSTONE),
}
FAULTS = {
    **COMPARING,
    **{f"postgres: {name}": fault for name, fault in COMPARING.items()},
    "looks at the file once": (_file_changes, "_state_of", remembers_the_state_for_ever(), TOLD_ONCE),
    "overlooks its own writes": (SQLiteStorage, "confirm", asks_the_connection_that_writes, TOLD_ONCE),
    "hides what it cannot read": (SQLiteStorage, "load_many", leaves_out_what_cannot_be_read, UNREADABLE),
    "looks first": (
        SQLiteStorage,
        "watch",
        watches_after_it_has_looked,
        "an_end_while_a_watch_begins_is_seen_or_reported",
    ),
}


@asynccontextmanager
async def rig_for(fault: str, request: pytest.FixtureRequest, folder: Path) -> AsyncGenerator[Rig]:
    if fault.startswith("postgres"):
        server: PostgresServer = request.getfixturevalue("postgres")
        async with postgres_rig(server, server.dsn()) as rig:
            yield rig
    else:
        async with RIGS["sqlite"](folder) as rig:
            yield rig


@pytest.mark.postgres
@pytest.mark.parametrize("fault", FAULTS)
async def test_the_kit_catches_a_storage_that(
    fault: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, name, planted, check = FAULTS[fault]
    async with rig_for(fault, request, tmp_path) as rig:
        monkeypatch.setattr(target, name, planted)
        async with caught():
            await check_named(check)(rig)


class Faults(MemoryStorage):
    capabilities = MemoryStorage.capabilities
    watched: tuple[str, ...] = ()

    @breaks("watch", "watching_returns_what_load_returns")
    async def shows_what_it_watches_in_any_order(self, keys: Sequence[str], changed: Changed) -> list[Any]:
        return [*reversed(await super().watch(keys, changed))]

    @breaks("watch", "a_change_is_reported_to_everybody_who_watches")
    async def tells_the_last_one_only(self, keys: Sequence[str], changed: Changed) -> list[Any]:
        for key in keys:
            self._table.watchers.by_key.pop(key, None)
        return await super().watch(keys, changed)

    @breaks("watch", "no_change_is_missed_between_two_watches")
    async def watches_each_key_once(self, keys: Sequence[str], changed: Changed) -> list[Any]:
        new = [key for key in keys if key not in self.watched]
        self.watched += (*new,)
        await super().watch(new, changed)
        return await self.load_many(keys)

    @breaks("unwatch", "what_is_not_watched_any_more_is_not_reported")
    def goes_on_watching(self, key: str, changed: Changed) -> None:
        pass

    @breaks("clear", "an_end_by_clearing_a_prefix_is_reported")
    async def clears_without_a_word(self, prefix: str) -> int:
        self._table.watchers.by_key.clear()
        return await super().clear(prefix)


@pytest.mark.parametrize(("broken", "by"), broken_by(Faults))
async def test_the_kit_catches_a_memory_that(broken: type[Faults], by: str) -> None:
    clock = ManualClock()
    async with caught():
        await check_named(by)(manual_rig(broken(clock=clock), clock))
