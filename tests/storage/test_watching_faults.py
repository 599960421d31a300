"""Faults in the watching of SQLite and PostgreSQL, each planted in the real storage and caught by the kit."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from servers.postgres_server import PostgresServer
from tests.storage.fault_rig import caught, check_named
from tests.storage.postgres_rigs import postgres_rig
from tests.storage.rigs import RIGS

from sessioncore import SQLiteStorage
from sessioncore._watchers import Changed, ComparedWatchers, Held
from sessioncore.storage.sqlite import _watching
from sessioncore.storage.sqlite._records import Records
from sessioncore.testing import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


watch = SQLiteStorage.watch
compare, state_of, held = ComparedWatchers.compare, _watching._state_of, Records.held  # pyright: ignore[reportPrivateUsage]


def compares_no_version(self: ComparedWatchers, keys: Iterable[str], now: Mapping[str, Held]) -> None:
    compare(self, [key for key in keys if key not in now], now)


def overlooks_the_deleted(self: ComparedWatchers, keys: Iterable[str], now: Mapping[str, Held]) -> None:
    compare(self, [key for key in keys if key in now], now)


def overlooks_tombstones(self: ComparedWatchers, keys: Iterable[str], now: Mapping[str, Held]) -> None:
    compare(self, [key for key in keys if not isinstance(now.get(key), str)], now)


def remembers_the_state_for_ever() -> Callable[[Any], tuple[object, ...]]:
    states: list[tuple[object, ...]] = []

    def state(connection: Any) -> tuple[object, ...]:
        states.append(state_of(connection))
        return states[0]

    return state


async def asks_the_connection_that_writes(self: SQLiteStorage) -> None:
    async def read(work: Any) -> Any:
        return await (self._write(work) if work is state_of else self._read(work))  # pyright: ignore[reportPrivateUsage]

    await self._watching.confirm(read)  # pyright: ignore[reportPrivateUsage]


async def watches_after_it_has_looked(self: SQLiteStorage, keys: Sequence[str], changed: Changed) -> Any:
    found = await self.load_many(keys)
    await anyio.sleep(0.05)
    await watch(self, keys, changed)
    return found


TOLD_ONCE = "every_change_of_a_watched_key_is_told_once"
TOMBSTONE = "a_move_that_leaves_a_tombstone_is_told"
COMPARING: dict[str, tuple[object, str, object, str]] = {
    "compares no version": (ComparedWatchers, "compare", compares_no_version, TOLD_ONCE),
    "overlooks the deleted": (ComparedWatchers, "compare", overlooks_the_deleted, TOLD_ONCE),
    "overlooks tombstones": (ComparedWatchers, "compare", overlooks_tombstones, TOMBSTONE),
}
FAULTS = {
    **COMPARING,
    **{f"postgres: {name}": fault for name, fault in COMPARING.items()},
    "looks at the file once": (_watching, "_state_of", remembers_the_state_for_ever(), TOLD_ONCE),
    "overlooks its own writes": (SQLiteStorage, "confirm", asks_the_connection_that_writes, TOLD_ONCE),
    "looks first": (SQLiteStorage, "watch", watches_after_it_has_looked, "an_end_while_a_watch_begins_is_seen_or_told"),
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


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_kit_catches_a_storage_that(
    fault: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, name, planted, check = FAULTS[fault]
    async with rig_for(fault, request, tmp_path) as rig:
        monkeypatch.setattr(target, name, planted)
        async with caught():
            await check_named(check)(rig)
