"""`Session.alive` ends when the session does, whoever ends it, and lives on for as long as it does."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from threading import Thread
from typing import Any

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab
from tests.live.live_kit import FAST, STORAGES, Watched, watched
from tests.request.test_replaced_ids import SpyWithTombstones
from tests.stores import SpyStorage
from tests.turns import comes_true

from sessioncore import (
    LifecycleError,
    MemoryStorage,
    Session,
    SessionConfig,
    SessionError,
    SessionGone,
    SessionReleased,
    SessionStore,
    StorageUnavailable,
)
from sessioncore._watchers import Changed
from sessioncore.session._session import state_of
from sessioncore.storage import Moved, Stored, Unreadable

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

Work = Callable[[Session], Coroutine[Any, Any, None]]
SHORT, LONG = timedelta(seconds=0.3), timedelta(minutes=1)
on_storages = pytest.mark.parametrize("storage", STORAGES)


async def regenerate(session: Session) -> None:
    await session.regenerate()
    await session.save()


async def write(session: Session) -> None:
    session["n"] = 2
    await session.save()


async def log_in_again(session: Session) -> None:
    await session.login("u")
    await session.save()


async def log_in_as_another(session: Session) -> None:
    await session.login("somebody else")
    await session.save()


async def bind_owner(session: Session) -> None:
    session.bind_owner("somebody else")
    await session.save()


async def end_and_begin_another(session: Session) -> None:
    await session.destroy()
    await log_in_again(session)


async def evict(one: Watched) -> None:
    config = SessionConfig.development(storage=one.store.storage, key_prefix="s:", max_sessions_per_owner=1)
    await log_in_again(await SessionStore(config).create())


async def move_and_revoke(one: Watched) -> None:
    await regenerate(one.other)
    await one.looked_up()
    await one.store.revoke(one.other.handle)


async def shorten(one: Watched) -> None:
    one.other.set_idle_timeout(SHORT)
    await one.other.save()


async def end_absolutely(one: Watched) -> None:
    one.other.set_absolute_timeout(SHORT)
    await one.other.save()


async def anonymous(store: SessionStore) -> Session:
    return await store.create({"n": 1})


ENDS: dict[str, Callable[[Watched], Awaitable[object]]] = {
    "another's destroy": lambda one: one.other.destroy(), "another's reset": lambda one: one.other.reset(),
    "its own destroy": lambda one: one.mine.destroy(), "its own reset": lambda one: one.mine.reset(),
    "its own destroy, and another session at once": lambda one: end_and_begin_another(one.mine),
    "revoke": lambda one: one.store.revoke(one.mine.handle), "revoke_all": lambda one: one.store.revoke_all("u"),
    "delete": lambda one: one.store.delete(one.mine.id), "the store's reset": lambda one: one.store.reset(),
    "the owner's limit": evict, "another owner without a new ID": lambda one: bind_owner(one.other),
    "another owner's login": lambda one: log_in_as_another(one.other),
    "a revocation after another's regenerate": move_and_revoke, "time: idle": shorten,
    "time: absolute": end_absolutely, "another's new ID, without a window": lambda one: regenerate(one.other),
    "the login of an anonymous visitor": lambda one: log_in_again(one.other),
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "another's new ID, without a window": {"stale_id_window": timedelta(0)},
    "the login of an anonymous visitor": {"begin": anonymous},
}


@pytest.mark.proves("P2", "AT-132")
@on_storages
@pytest.mark.parametrize("end", ENDS)
async def test_it_ends_with_the_session(storage: str, end: str) -> None:
    if (storage, end) == ("polled", "a revocation after another's regenerate"):
        pytest.skip("this storage keeps no tombstones, so the regenerate has ended it")
    settings: dict[str, Any] = SETTINGS.get(end, {}) | ({} if storage == "polled" else {"watch_interval": LONG})
    async with watched(STORAGES[storage](), key_prefix="s:", **settings) as one:
        await ENDS[end](one)
        await one.ends()


async def test_an_end_in_another_thread_is_noticed_at_once() -> None:
    async with watched(MemoryStorage(), watch_interval=LONG) as one:
        # In an empty context: without the GIL a thread inherits one, and anyio would believe that a loop runs in it.
        Thread(target=Context().run, args=(anyio.run, one.store.revoke, one.mine.handle)).start()
        await one.ended.wait()


OWN = [regenerate, write, log_in_again, log_in_as_another, bind_owner]


@on_storages
@pytest.mark.parametrize("work", OWN)
async def test_what_its_own_request_does_ends_nothing_but_a_later_end_does(storage: str, work: Work) -> None:
    async with watched(STORAGES[storage]()) as one:
        await work(one.mine)
        await one.goes_on()
        await one.store.revoke(one.mine.handle)
        await one.ended.wait()


@pytest.mark.parametrize("work", [regenerate, write, log_in_again])
async def test_it_follows_another_requests_new_id_while_the_owner_stays(work: Work) -> None:
    async with watched(MemoryStorage()) as one:
        await work(one.other)
        await work(one.other)
        await one.goes_on()
        await one.store.revoke(one.other.handle)
        await one.ended.wait()


async def begun_after_another(store: SessionStore) -> Session:
    session = await store.create(owner="u")
    await end_and_begin_another(session)
    return session


async def test_its_own_end_counts_where_the_request_had_ended_another_session_before() -> None:
    async with watched(MemoryStorage(), begun_after_another) as one:
        await write(one.mine)
        await one.goes_on()
        await end_and_begin_another(one.mine)
        await one.ended.wait()


LEFT = 2.0  # seconds: a busy machine may pause before the session is watched


async def nearly_over(store: SessionStore) -> Session:
    session = await store.create({"n": 1})
    assert await store.storage.touch(f"session:{session.handle}", LEFT)
    return session


@on_storages
async def test_a_renewal_by_another_request_puts_the_end_off(storage: str) -> None:
    async with watched(STORAGES[storage](), nearly_over) as one:
        one.other.set_idle_timeout(timedelta(seconds=2 * LEFT))
        await one.other.save()
        await anyio.sleep(LEFT)  # its former end has passed
        await one.goes_on()
        await one.ends()


@pytest.mark.parametrize(("begin", "window"), [(None, timedelta(seconds=1)), (nearly_over, LONG)])
async def test_an_outage_ends_it_after_the_window_and_not_before_or_at_its_own_end(
    begin: Any, window: timedelta
) -> None:
    storage = SpyStorage()
    async with watched(storage, begin, storage_timeout=FAST, stale_id_window=window) as one:
        began = anyio.current_time()
        with storage.fail():
            await one.ends(StorageUnavailable)
        assert one.error is not None
        assert isinstance(one.error.__cause__, StorageUnavailable)
        assert anyio.current_time() - began >= (begin is None)


async def test_it_survives_an_outage_that_is_shorter_and_notices_an_end_after_it() -> None:
    storage = SpyStorage()
    async with watched(storage, storage_timeout=FAST) as one:
        with storage.fail() as outage:
            await outage.entered.wait()
            await storage.inner.delete(f"session:{one.mine.handle}")
            await anyio.sleep(0.2)
            assert not one.ended.is_set()
        await one.ends()


async def test_what_cannot_be_watched_raises_at_once() -> None:
    store = SessionStore()
    released = await store.create({"n": 1})
    released.release()
    ended = await store.create({"n": 1})
    await ended.destroy()
    for session, kind in ((released, SessionReleased), (ended, SessionGone)):
        with pytest.raises(kind):
            async with session.alive():
                pytest.fail("the block must not run")
    assert issubclass(SessionReleased, LifecycleError)


async def test_a_block_that_ends_first_is_not_cancelled_and_an_error_of_its_own_passes() -> None:
    store = SessionStore()
    session = await store.create({"n": 1})
    with pytest.raises(ZeroDivisionError):
        async with session.alive():
            raise ZeroDivisionError
    async with session.alive():
        await store.revoke(session.handle)  # the end is not noticed before the block is over


async def test_a_block_that_swallows_its_cancellation_still_raises() -> None:
    async with watched(MemoryStorage(), watch_interval=LONG) as one:
        another = await one.store.create({"n": 1})
        with pytest.raises(SessionGone):
            async with another.alive():
                await one.store.revoke(another.handle)
                with suppress(anyio.get_cancelled_exc_class()):  # as an anyio portal's context manager does
                    await anyio.sleep_forever()


@pytest.mark.parametrize("end", ["of the blocks", "of the session", "of the store"])
async def test_after_its_end_a_session_is_watched_no_longer(end: str) -> None:
    storage = MemoryStorage()
    watching = storage._table.watchers.by_key  # pyright: ignore[reportPrivateUsage]
    async with watched(storage) as one:
        async with one.other.alive():
            await one.looked_up()
        assert watching
        if end != "of the blocks":
            await (one.mine.destroy() if end == "of the session" else one.store.aclose())
            await one.looked_up()
            assert watching == {}
    assert watching == {}


async def test_a_watch_that_ends_during_its_look_up_hears_nothing_of_it() -> None:
    storage, heard = SpyStorage(), list[SessionError]()
    async with watched(storage) as one:
        watch = one.store._persistence.live.watch(state_of(one.other), heard.append)  # pyright: ignore[reportPrivateUsage]
        with storage.hold("load") as held:
            await held.entered.wait()
            watch.stop()
            await one.store.revoke(one.mine.handle)
        await one.ended.wait()
    assert heard == []


async def test_a_message_renews_a_session_once_and_one_that_renews_nothing_leaves_that_to_the_next() -> None:
    lab = Lab()
    session = await lab.held()
    lab.storage.fail("touch", times=2)
    watch = lab.store._persistence.live.watch(state_of(session), print)  # pyright: ignore[reportPrivateUsage]
    # Before the task begins; twice in an outage; when a renewal is due; when it is not; after the deadline.
    for pause in (600, 0, 0, 0, 0, 10**6):
        lab.clock.advance(pause)
        for _ in range(2):  # at the second one, the first may be about to renew the session
            watch.message_received()
        await anyio.wait_all_tasks_blocked()
    assert lab.calls.count("touch") == 3
    assert lab.kinds() == ["storage_error", "storage_error", "renewed"]


async def test_a_message_renews_no_session_that_another_request_has_moved() -> None:
    lab = Lab(kind=SpyWithTombstones, watch_interval=FAST)
    session = await lab.held()
    watch: Any = lab.store._persistence.live.watch(state_of(session), print)  # pyright: ignore[reportPrivateUsage]
    async with lab.store.open(session.id) as other:
        await other.regenerate()
    await comes_true(lambda: not watch.key.endswith(session.handle))
    lab.clock.advance(600)
    watch.message_received()
    await anyio.wait_all_tasks_blocked()
    watch.stop()
    assert "touch" not in lab.calls


async def test_a_client_that_has_left_before_the_end_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    def close(_: SessionError) -> None:
        raise BrokenPipeError

    async with watched(MemoryStorage()) as one:
        one.store._persistence.live.watch(state_of(one.other), close)  # pyright: ignore[reportPrivateUsage]
        await one.other.destroy()
        await one.looked_up()
    assert caplog.text == ""


class DeafStorage(MemoryStorage):
    """A storage whose channel is dead: `knows` says whether it has noticed."""

    capabilities = MemoryStorage.capabilities

    def __init__(self, *, knows: bool) -> None:
        super().__init__()
        self.knows = knows

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        answers = await super().watch(keys, changed)
        for key in keys:
            self.unwatch(key, changed)
        return answers

    async def confirm(self) -> None:
        if self.knows:
            raise StorageUnavailable("the channel is lost")


@pytest.mark.parametrize("knows", [True, False])  # if it does not, the session's timeout ends it
async def test_an_end_that_no_channel_reports_is_noticed(knows: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(DeafStorage(knows=knows), None if knows else nearly_over) as one:
        await one.store.revoke(one.mine.handle)
        await one.ends()
    assert ("the channel is lost" in caplog.text) is knows


# -- the request's own writes, whose replies are slow or lost, on a storage that keeps no tombstones


@pytest.mark.parametrize("work", OWN)
async def test_an_own_write_under_way_ends_nothing(work: Work) -> None:
    storage = SpyStorage()
    async with watched(storage) as one, anyio.create_task_group() as tasks:
        with storage.hold_reply("move", "replace") as held:
            tasks.start_soon(work, one.mine)
            await held.entered.wait()
            await one.looked_up()
        await one.goes_on()
        await one.store.revoke(one.mine.handle)
        await one.ended.wait()


@pytest.mark.parametrize("work", [regenerate, log_in_as_another])
async def test_an_own_move_whose_reply_was_lost_ends_nothing(work: Work) -> None:
    storage = SpyStorage()
    async with watched(storage) as one:
        with storage.lose_reply("move"), pytest.raises(StorageUnavailable):
            await work(one.mine)
        await one.looked_up()
        await one.goes_on()
        [handle] = [info.handle for info in await one.store.sessions_of(one.mine.owner or "")]
        assert await one.store.revoke(handle)
        await one.ended.wait()


async def test_tombstones_that_lead_in_a_circle_end_it() -> None:
    async def damaged(key: str, *, renew: float | None = None) -> Moved:
        return Moved("s:b" if key == "s:a" else "s:a")

    async with watched(SpyStorage()) as one:
        one.store.storage.load = damaged  # type: ignore[method-assign]
        await one.ended.wait()


@pytest.mark.parametrize("work", OWN)
async def test_an_own_write_while_a_look_up_is_on_its_way_ends_nothing(work: Work) -> None:
    storage = SpyStorage()
    async with watched(storage) as one:
        with storage.hold("load") as held:
            await held.entered.wait()
            await work(one.mine)
        await one.goes_on()
