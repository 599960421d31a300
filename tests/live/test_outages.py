"""`Session.alive` on storages that cannot be reached for a while, that are polled, or that break their contract."""

import asyncio
import gc
import select
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import anyio
import pytest
from key_value.aio.stores.memory import MemoryStore
from msgspec import Struct
from servers.postgres_server import PostgresServer
from tests.live.live_kit import FAST, Watched, watched
from tests.stores import SpyStorage
from tests.tcp_proxy import proxy_to
from tests.turns import comes_true

from sessioncore import SessionConfig, SessionError, SessionEvent, SessionGone, SessionStore, StorageUnavailable
from sessioncore._watchers import Changed
from sessioncore.live import _watch_task
from sessioncore.live._polling import Polling
from sessioncore.live._watch_task import WatchTask
from sessioncore.session._session import state_of
from sessioncore.storage import MemoryStorage, Moved, SQLiteStorage, Storage, Stored, Unreadable
from sessioncore.storage.keyvalue import KeyValueStorage
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.testing import FailingStorage

pytestmark = pytest.mark.anyio

LONG = timedelta(seconds=30)
TIMEOUT = timedelta(seconds=0.5)


class Place(Struct):
    """A storage that a test can cut off from its records, and another one on the same records."""

    mine: Storage
    others: Storage
    cut: Callable[[], object]
    mend: Callable[[], object]


@asynccontextmanager
async def postgres(_: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Place]:
    server: PostgresServer = request.getfixturevalue("postgres")
    dsn = await asyncio.to_thread(server.new_database)
    async with proxy_to(server.port) as proxy:
        mine = PostgresStorage(dsn.replace(f":{server.port}/", f":{proxy.port}/"))
        others = PostgresStorage(dsn)
        await mine.open()
        cut, mend = (partial(setattr, proxy, "swallow", silent) for silent in (True, False))
        yield Place(mine, others, cut, mend)
        await mine.aclose()
        await others.aclose()


@asynccontextmanager
async def sqlite(folder: Path, _: pytest.FixtureRequest) -> AsyncGenerator[Place]:
    real, link = folder / "real", folder / "link"
    real.mkdir()
    link.symlink_to(real)
    mine, others = SQLiteStorage(link / "sessions.db"), SQLiteStorage(real / "sessions.db")
    await mine.open()
    yield Place(mine, others, link.unlink, lambda: link.symlink_to(real))
    await mine.aclose()
    await others.aclose()


@pytest.fixture(params=[sqlite, pytest.param(postgres, marks=pytest.mark.postgres)])
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Place]:
    async with request.param(tmp_path, request) as here:
        yield here


async def test_an_end_during_an_outage_is_noticed_after_it(place: Place) -> None:
    failed = asyncio.Event()

    def note(event: SessionEvent) -> None:
        if event.kind.value == "storage_error":
            failed.set()

    settings: dict[str, Any] = {"storage_timeout": TIMEOUT, "stale_id_window": LONG, "on_event": note}
    async with watched(place.mine, **settings) as one:
        place.cut()
        await failed.wait()
        with pytest.raises(StorageUnavailable):
            await one.store.get_by_id(one.mine.id)
        assert await SessionStore(SessionConfig.development(storage=place.others)).revoke(one.mine.handle)
        assert not one.ended.is_set()
        place.mend()
        await one.ends()


async def test_an_outage_without_end_closes_the_connections(place: Place) -> None:
    settings: dict[str, Any] = {"storage_timeout": TIMEOUT, "stale_id_window": timedelta(seconds=1)}
    async with watched(place.mine, **settings) as one:
        place.cut()
        await one.ends(StorageUnavailable)
        place.mend()


async def test_in_an_outage_connections_end_whose_look_up_never_had_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watch_task, "_BATCH", 1)  # one key in each look-up, and one look-up in half an interval
    storage, run_round, rounds = SpyStorage(), WatchTask._run_round, list[float]()  # pyright: ignore[reportPrivateUsage]

    async def counted(self: WatchTask, now: float) -> None:
        rounds.append(now)
        await run_round(self, now)

    monkeypatch.setattr(WatchTask, "_run_round", counted)
    async with (
        watched(storage, storage_timeout=FAST, stale_id_window=2 * FAST) as one,
        anyio.create_task_group() as tasks,
    ):
        many = [Watched(one.store, made, made) for made in [await one.store.create({"n": 1}) for _ in range(40)]]
        for each in many:
            tasks.start_soon(each.stay, anyio.Event())
        await comes_true(lambda: storage.calls.count("load") > 2 * len(many))
        storage.fail()
        tried = storage.calls.count("load")
        rounds.clear()
        for each in (one, *many):
            await each.ends(StorageUnavailable)
        assert storage.calls.count("load") - tried < len(many) / 2
        assert len(rounds) < 200  # between two tries it sleeps


class SilentStorage(MemoryStorage):
    """A storage whose channel never confirms."""

    capabilities = MemoryStorage.capabilities

    async def confirm(self) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize("kind", [SpyStorage, SilentStorage])
async def test_a_call_without_a_reply_keeps_no_connection_beyond_the_end_of_its_session(kind: Any) -> None:
    storage, short = kind(), timedelta(seconds=1.5)
    async with watched(storage, idle_timeout=short, storage_timeout=LONG) as one:
        if isinstance(storage, SpyStorage):
            storage.hold("load")
        await one.ends(StorageUnavailable)


async def test_the_time_for_which_the_process_was_stopped_is_no_outage() -> None:
    async def stop() -> None:
        select.select([], [], [], 2.9)  # nothing runs, as when the process is stopped
        raise StorageUnavailable("its connection did not survive that")

    storage = SpyStorage()
    async with watched(storage, storage_timeout=FAST, stale_id_window=timedelta(seconds=2.5)) as one:
        storage.before["load"] = stop
        await one.goes_on()
        await one.other.destroy()
        await one.ends()


async def test_an_outage_closes_the_connections_one_after_the_other() -> None:
    storage, number = FailingStorage(MemoryStorage()), 40
    settings: dict[str, Any] = {"watch_interval": TIMEOUT, "storage_timeout": TIMEOUT}
    store, ended = SessionStore(SessionConfig(storage=storage, stale_id_window=2 * TIMEOUT, **settings)), list[float]()

    async def stay() -> None:
        with pytest.raises(StorageUnavailable):
            async with (await store.create({"n": 1})).alive():
                await anyio.sleep_forever()
        ended.append(anyio.current_time())

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(number):
                tasks.start_soon(stay)
            await anyio.sleep(FAST.total_seconds())
            storage.hold("load")
    first, middle, last = ended[0], ended[number // 2], ended[-1]
    assert (middle - first > 0.1, last - middle > 0.1, last - first < 0.6) == (True, True, True)


async def test_a_key_value_store_is_polled_within_the_interval() -> None:
    async with watched(KeyValueStorage(MemoryStore())) as one:
        await one.store.revoke(one.mine.handle)
        with anyio.fail_after(SessionConfig().watch_interval.total_seconds()):  # the interval here is much shorter
            await one.ends()


async def test_a_polled_key_that_is_not_watched_is_not_reported() -> None:
    polling, told = Polling(SpyStorage()), list[str]()
    tell = told.append
    await polling.watch(["a", "b"], tell)
    polling.unwatch("a", tell)
    await polling.confirm()
    assert told == ["b"]


async def test_a_task_runs_only_while_something_is_watched(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "sessions.db")
    async with SessionStore(SessionConfig.development(storage=storage, watch_interval=FAST)) as store:
        session = await store.create({"n": 1})
        before = asyncio.all_tasks()
        async with session.alive():
            [_] = asyncio.all_tasks() - before
        await comes_true(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("closes", [True, False])
def test_an_event_loop_that_has_ended_does_not_stay_in_memory(closes: bool, caplog: pytest.LogCaptureFixture) -> None:
    store, loops = SessionStore(SessionConfig()), WeakSet[asyncio.AbstractEventLoop]()

    async def watch() -> None:
        loops.add(asyncio.get_running_loop())
        async with store if closes else nullcontext(), (await store.create({"n": 1})).alive():
            pass

    for _ in range(3):
        asyncio.run(watch())
    gc.collect()
    assert len(loops) <= (not closes)  # unless the store was closed, the last one stays until another one watches
    assert caplog.text == ""


def test_an_event_loop_that_was_closed_under_its_watches_hinders_no_other() -> None:
    store = SessionStore(SessionConfig())

    async def watch() -> None:
        store._persistence.live.watch(state_of(await store.create({"n": 1})), print)  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)

    for _ in range(2):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(watch())
        loop.close()


class Forgetful(MemoryStorage):
    """A storage that leaves out an answer in each of its first `left` calls."""

    capabilities = MemoryStorage.capabilities
    left = 1

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        self.left -= 1
        return (await super().watch(keys, changed))[self.left >= 0 :]


@pytest.mark.parametrize(("times", "error"), [(1, SessionGone), (1000, StorageUnavailable)])
async def test_a_storage_that_breaks_its_contract_leaves_nothing_unwatched(
    times: int, error: type[SessionError], caplog: pytest.LogCaptureFixture
) -> None:
    storage = Forgetful()
    storage.left = times
    async with watched(storage, storage_timeout=TIMEOUT, stale_id_window=TIMEOUT + FAST) as one:
        if times == 1:
            await one.store.revoke_all("u")
        await one.ends(error)
    assert "Forgetful.watch returned 0 records instead of 1; see the contract" in caplog.messages[0]
    assert len(caplog.messages) <= min(times, 5)  # not one for each look-up


@pytest.mark.parametrize("reply", ["text", Stored(cast("bytes", ""), 1, 60.0), Moved(cast("str", 5))])
async def test_a_broken_reply_for_one_key_keeps_no_other_from_being_looked_up(reply: Any) -> None:
    class Odd(SpyStorage):
        key = ""

        async def load(self, key: str, *, renew: float | None = None) -> Any:
            right = await super().load(key, renew=renew)
            return reply if key == self.key else right

    storage = Odd()
    async with watched(storage, storage_timeout=TIMEOUT, stale_id_window=TIMEOUT + FAST) as one:
        second = await one.store.create({"n": 1})
        storage.key = f"session:{one.mine.handle}"
        with pytest.raises(SessionGone):
            async with second.alive():
                await one.looked_up()
                await one.store.delete(second.id)
                await anyio.sleep_forever()
        assert one.error is None
        await one.ends(StorageUnavailable)


def plain_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> Any:
    """Make a task as the factories of older libraries do, which take no `context`."""
    return asyncio.Task(work, loop=loop, name=name)


@pytest.mark.parametrize("factory", [plain_task, *filter(None, [getattr(asyncio, "eager_task_factory", None)])])
async def test_an_end_is_noticed_whatever_makes_the_tasks(factory: Any) -> None:
    asyncio.get_running_loop().set_task_factory(factory)
    try:
        async with watched(MemoryStorage()) as one:
            await one.store.revoke_all("u")
            await one.ends()
    finally:
        asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio cannot cancel a task from another one
async def test_a_watch_that_is_cancelled_from_elsewhere_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with watched(MemoryStorage()):
        [task] = [one for one in asyncio.all_tasks() if "run_in_background" in repr(one.get_coro())]
        task.cancel()
        await asyncio.wait([task])
        await comes_true(lambda: "the watch task was cancelled" in caplog.text)
