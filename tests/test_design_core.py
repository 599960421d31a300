"""What the design promises, as somebody reads it who knows the public names only."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from sessioncore import (
    ConfigError,
    CorruptRecord,
    EventKind,
    MemoryStorage,
    Session,
    SessionConfig,
    SessionEvent,
    SessionGone,
    SessionNotFound,
    SessionStore,
    SQLiteStorage,
    StorageUnavailable,
    Stored,
    UnregisteredType,
)
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


class View:
    """A request with at most one cookie."""

    method, path, scheme = "GET", "/", "https"

    def __init__(self, sid: str | None = None, path: str = "/") -> None:
        self.path = path
        self._cookies = [f"theme=dark; __Host-session_id={sid}".encode()] if sid else []

    def cookie_headers(self) -> Sequence[bytes]:
        return self._cookies

    def header(self, name: str) -> Sequence[str]:
        return []

    def query(self, name: str) -> str | None:
        return None

    def path_param(self, name: str) -> str | None:
        return None

    async def form(self, name: str) -> str | None:
        return None


class Site:
    """Stores on one storage and one clock, with the events of all."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.clock = ManualClock()
        self.events: list[SessionEvent] = []
        self.storage = (
            MemoryStorage(clock=self.clock) if kind == "memory" else SQLiteStorage(folder / "s.db", clock=self.clock)
        )

    def store(self, **config: Any) -> SessionStore:
        given: dict[str, Any] = {"storage": self.storage, "clock": self.clock, "on_event": self.events.append, **config}
        return SessionStore(SessionConfig(**given))

    def told(self, kind: EventKind) -> list[SessionEvent]:
        return [event for event in self.events if event.kind is kind]


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(request.param, tmp_path)


async def visit(
    store: SessionStore, sid: str | None, work: Callable[[Session], Awaitable[object]], status: int = 200
) -> list[str]:
    """One request from its first to its last step; returns its Set-Cookie lines."""
    exchange = store.exchange(View(sid))
    await exchange.load()
    await work(exchange.session)
    headers = await exchange.commit(status)
    await exchange.finish()
    return [value for name, value in headers if name.lower() == "set-cookie"]


# -- storages that misbehave


@pytest.mark.parametrize("fault", ["fails", "hangs"])
@pytest.mark.parametrize("operation", ["load", "create", "replace", "move", "delete", "check"])
async def test_a_method_that_overrides_the_memory_storages_own_is_bounded_and_translated(
    operation: str, fault: str
) -> None:
    broken = False

    async def override(self: MemoryStorage, *args: Any, **options: Any) -> Any:
        if broken:
            if fault == "hangs":
                await anyio.sleep_forever()
            raise OSError("no route")
        return await getattr(MemoryStorage, operation)(self, *args, **options)

    storage: MemoryStorage = type("Own", (MemoryStorage,), {operation: override})()
    events = list[SessionEvent]()
    store = SessionStore(
        SessionConfig(storage=storage, on_event=events.append, storage_timeout=timedelta(milliseconds=20))
    )
    sid = (await store.create({"n": 1})).id
    read, write, turn = [await store.get_by_id(sid) for _ in range(3)]
    write["n"] = 2
    await turn.regenerate()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "load": lambda: store.get_by_id(sid),
        "create": lambda: store.create({"n": 1}),
        "replace": write.save,
        "move": turn.save,
        "delete": read.destroy,
        "check": store.check,
    }
    broken = True
    with pytest.raises(StorageUnavailable):
        await calls[operation]()
    broken = False
    [event] = [event for event in events if event.kind is EventKind.STORAGE_ERROR]
    assert event.detail == f"{operation}: {'OSError' if fault == 'fails' else 'TimeoutError'}"
    assert (await store.get_by_id(sid))["n"] == 1


# -- the idle clock


async def test_use_in_the_store_pattern_keeps_a_session_alive_also_without_save(site: Site) -> None:
    async with site.store() as store:
        sid = (await store.create({"n": 1})).id
        for _ in range(5):
            site.clock.advance(25 * 60)
            session = await store.get(View(sid))
            assert session["n"] == 1
            session.release()
        site.clock.advance(31 * 60)
        assert (await store.get(View(sid))).fresh


@pytest.mark.parametrize("touch", [None, timedelta(), MINUTE])
async def test_an_own_idle_timeout_below_the_touch_interval_is_renewed_by_use(
    site: Site, touch: timedelta | None
) -> None:
    async with site.store(touch_interval=touch) as store:
        session = await store.create({"n": 1})
        session.set_idle_timeout(timedelta(seconds=40))
        await session.save()
        for _ in range(5):
            site.clock.advance(30)
            found: list[Any] = []

            async def look(session: Session, found: list[Any] = found) -> None:
                found.append(session.get("n"))

            await visit(store, session.id, look)
            assert found == [1]
        site.clock.advance(41)
        with pytest.raises(SessionNotFound):
            await store.get_by_id(session.id)


async def test_a_request_that_breaks_off_does_not_shorten_a_longer_own_idle_timeout(site: Site) -> None:
    async with site.store(touch_interval=timedelta(), absolute_timeout=None) as store:
        session = await store.create({"n": 1})
        session.set_idle_timeout(timedelta(days=7))
        await session.save()
        site.clock.advance(3600)
        exchange = store.exchange(View(session.id))
        await exchange.load()
        assert exchange.session["n"] == 1
        await exchange.finish(failed=True)
        site.clock.advance(3600)
        assert (await store.get_by_id(session.id)).idle_timeout == timedelta(days=7)


async def test_an_own_idle_timeout_moves_the_cookie_where_nothing_else_ends_it(site: Site) -> None:
    async with site.store(absolute_timeout=None) as store:

        async def remember(session: Session) -> None:
            session["n"] = 1
            session.set_idle_timeout(timedelta(days=7))

        async def forget(session: Session) -> None:
            session.set_idle_timeout(None)
            assert session.idle_timeout == 30 * MINUTE

        [cookie] = await visit(store, None, remember)
        assert "Max-Age=604800;" in cookie
        sid = cookie.partition("=")[2].partition(";")[0]
        site.clock.advance(6 * 86400)
        [cookie] = await visit(store, sid, forget)
        assert "Max-Age=1800;" in cookie
        site.clock.advance(1801)
        assert await visit(store, sid, read_all) == []
        with pytest.raises(SessionNotFound):
            await store.get_by_id(sid)


async def read_all(session: Session) -> None:
    dict(session)


# -- the verbs


async def test_destroy_leaves_the_id_as_it_is_until_something_is_written(site: Site) -> None:
    async with site.store() as store:
        stored = await store.create({"n": 1})
        moving = await store.create({"n": 1})
        await moving.regenerate()
        fresh = await store.get(View())
        for session in (stored, moving, fresh):
            before = session.id
            await session.destroy()
            assert (session.id, session.fresh, session.empty) == (before, True, True)
            await session.destroy()
            assert session.id == before
            session["n"] = 2
            after = session.id
            assert after != before
            await session.save()
            assert (session.id, session.fresh) == (after, False)
            assert dict(await store.get_by_id(after)) == {"n": 2}
            with pytest.raises(SessionNotFound):
                await store.get_by_id(before)


async def test_a_mutation_that_fails_half_way_leaves_what_was_there(site: Site) -> None:
    def spoil(value: list[Any]) -> list[Any]:
        value.append(object())
        raise ZeroDivisionError

    async with site.store() as store:
        sid = (await store.create({"list": [1]})).id
        session = await store.get_by_id(sid)
        with pytest.raises(ZeroDivisionError):
            session.mutate("list", spoil)
        with pytest.raises(ZeroDivisionError):
            session.mutate("other", spoil, default=[])
        assert not session.modified
        assert dict(session) == {"list": [1]}
        kept = session["list"]

        def refuse(_: list[int]) -> list[int]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            session.mutate("list", refuse)
        kept.append(2)  # still the session's own list
        await session.save()
        assert dict(await store.get_by_id(sid)) == {"list": [1, 2]}


async def test_a_session_that_was_revoked_stays_gone_whatever_its_request_does(site: Site) -> None:
    async with site.store() as store:
        session = await store.create({"n": 1}, owner="ada")
        assert await store.revoke(session.handle, owner="bob") is False
        assert await store.revoke(session.handle, owner="ada") is True
        session["n"] = 2
        for verb in (session.save, session.regenerate, session.save, lambda: session.login("ada"), session.save):
            if verb == session.save:
                with pytest.raises(SessionGone):
                    await verb()
            else:
                await verb()
        assert await store.sessions_of("ada") == []
        await session.reset()
        session["n"] = 3
        await session.save()
        assert dict(await store.get_by_id(session.id)) == {"n": 3}


async def test_a_request_learns_of_its_session_what_the_design_says_before_and_after_each_verb(site: Site) -> None:
    async with site.store() as store:
        exchange = store.exchange(View())
        await exchange.load()
        session = exchange.session
        assert (session.fresh, session.owner, session.details) == (True, None, {})
        assert session.expires_at - session.created_at == session.idle_timeout == 30 * MINUTE
        assert session.created_at.tzinfo is UTC
        first = session.id
        session["n"] = 1
        assert (session.id, session.fresh, session.modified) == (first, True, True)
        await session.login("ada", device="phone")
        session.details["device"] = "a copy"
        assert (session.fresh, session.owner, session.details) == (True, "ada", {"device": "phone"})
        sid = session.id
        [(_, cookie)] = await exchange.commit(200)
        assert cookie.startswith(f"__Host-session_id={sid}; Max-Age=86400; ")
        handle = session.handle
        await exchange.finish()
        stored = await store.get_by_id(sid)
        assert (stored.handle, stored.owner, stored.fresh) == (handle, "ada", False)
        [info] = await store.sessions_of("ada")
        assert (info.handle, info.details) == (handle, {"device": "phone"})
        assert (info.created_at, info.expires_at) == (stored.created_at, stored.expires_at)
        await stored.regenerate()
        assert (stored.handle, stored.fresh) == (handle, False)  # the name of what is stored
        assert stored.id != sid
        await stored.save()
        assert stored.handle != handle


# -- owners and events


async def test_revoke_all_ends_a_session_of_a_server_whose_clock_is_ahead(site: Site) -> None:
    ahead = site.store(clock=lambda: site.clock() + 5)
    async with site.store() as store:
        session = await ahead.create({"n": 1}, owner="ada")
        assert await store.revoke_all("ada") == 1
        with pytest.raises(SessionNotFound):
            await store.get_by_id(session.id)


async def test_a_revocation_is_told_with_its_owner(site: Site) -> None:
    async with site.store() as store:
        one, two = [await store.create(owner="ada") for _ in range(2)]
        await store.revoke(one.handle, owner="ada")
        await store.revoke_all("ada")
        told = site.told(EventKind.REVOKED)
        assert [(event.handle, event.owner) for event in told] == [(one.handle, "ada"), (two.handle, "ada")]
        assert {event.at for event in told} == {datetime.fromtimestamp(site.clock(), UTC)}


@pytest.mark.parametrize("verb", ["login", "regenerate"])
async def test_all_others_can_be_signed_out_before_the_response_that_changes_the_id(site: Site, verb: str) -> None:
    async with site.store() as store:
        mine = await store.create({"n": 1}, owner="ada")
        await store.create(owner="ada")

        async def work(session: Session) -> None:
            await (session.login("ada") if verb == "login" else session.regenerate())
            assert await store.revoke_all("ada", keep=session) == 1

        [cookie] = await visit(store, mine.id, work)
        sid = cookie.partition("=")[2].partition(";")[0]
        [info] = await store.sessions_of("ada")
        assert info.handle == (await store.get_by_id(sid)).handle


async def test_each_kind_of_event_is_told_once_by_what_causes_it(site: Site) -> None:
    async with site.store(touch_interval=timedelta(seconds=1)) as store:
        late = site.store(clock=lambda: site.clock() + 86401)
        session = await store.create({"n": 1}, owner="ada")
        sid, moved = session.id, list[str]()

        async def regenerate(session: Session) -> None:
            await session.regenerate()
            moved.append(session.id)

        async def destroy(session: Session) -> None:
            await session.destroy()

        async def lose(session: Session) -> None:
            await store.revoke(session.handle)
            session["n"] = 2

        site.clock.advance(2)
        await visit(store, sid, read_all)
        await visit(store, sid, regenerate)
        await visit(store, sid, read_all)
        await visit(store, "short", read_all)
        await visit(store, f"{'a' * 43}; __Host-session_id={'b' * 43}", read_all)
        await visit(store, moved[0], destroy)
        await visit(store, (await store.create({"n": 1})).id, lose)
        await visit(late, (await store.create({"n": 1})).id, read_all)
    assert [event.kind.value for event in site.events] == [
        "created", "renewed", "regenerated", "stale_id", "malformed", "ambiguous",
        "destroyed", "created", "revoked", "gone", "created", "expired",
    ]  # fmt: skip
    told = "".join(map(repr, site.events))
    assert sid not in told
    assert moved[0] not in told


# -- values, from process to process


class Wide(msgspec.Struct):
    name: str
    level: int = 7


class Narrow(msgspec.Struct):
    name: str


async def test_processes_of_three_ages_share_a_session_during_a_deploy(site: Site) -> None:
    async with site.store() as new:
        middle, old = site.store(), site.store()
        new.register_type(Wide, name="user")
        middle.register_type(Narrow, name="user")
        sid = (await new.create({"user": Wide("ada", 9), "n": 1})).id
        for store in (old, middle):
            session = await store.get_by_id(sid)
            session.mutate("n", lambda n: n + 1)
            if store is old:
                with pytest.raises(UnregisteredType, match="'user'"):
                    session["user"]
            else:
                assert session["user"] == Narrow("ada")
            await session.save()
        session = await new.get_by_id(sid)
        assert dict(session) == {"user": Wide("ada", 9), "n": 3}
        session = await middle.get_by_id(sid)
        session["user"].name = "bob"
        await session.save()
        session = await new.get_by_id(sid)
        assert session["user"] == Wide("bob")
        assert not session.modified


async def test_one_damaged_value_leaves_its_neighbours_and_can_be_replaced(site: Site) -> None:
    async with site.store() as store:
        made = await store.create({"good": 1, "bad": datetime(2020, 1, 1, tzinfo=UTC)})
        key = f"session:{made.handle}"
        found = await site.storage.load(key)
        assert isinstance(found, Stored)
        damaged = found.data.replace(b"2020-01-01", b"2020-99-01")
        assert damaged != found.data
        await site.storage.replace(key, damaged, 1800, version=found.version)
        session = await store.get_by_id(made.id)
        session["good"] += 1
        with pytest.raises(CorruptRecord, match="'bad'"):
            session["bad"]
        assert [event.handle for event in site.told(EventKind.CORRUPT)] == [made.handle]
        await session.save()
        session = await store.get_by_id(made.id)
        assert list(session) == ["good", "bad"]
        session["bad"] = "whole"
        await session.save()
        assert dict(await store.get_by_id(made.id)) == {"good": 2, "bad": "whole"}


async def test_stores_of_neighbouring_prefixes_share_a_storage_and_nothing_else(site: Site) -> None:
    stores = [site.store(key_prefix=prefix) for prefix in ("a:", "ab:", "A:", "a")]
    async with stores[0]:
        made = [await store.create({"n": 1}, owner="ada") for store in stores]
        for store, session in zip(stores, made, strict=True):
            assert [info.handle for info in await store.sessions_of("ada")] == [session.handle]
            for other in made:
                assert (await store.delete(other.id) if other is not session else True) is (other is session)
        assert await stores[1].reset() == 1
        assert await stores[0].revoke_all("ada") == 1
        for store, session in ((stores[2], made[2]), (stores[3], made[3])):
            assert dict(await store.get_by_id(session.id)) == {"n": 1}


async def test_details_keep_their_types(site: Site) -> None:
    details = {"at": datetime(2020, 1, 1, tzinfo=UTC), "where": (48.1, 11.6), "user": Narrow("x")}
    async with site.store() as store:
        store.register_type(Narrow)
        session = await store.create()
        session.bind_owner("ada", **details)
        await session.save()
        [info] = await store.sessions_of("ada")
        assert info.details == details
        assert type(info.details["where"]) is tuple
        session.bind_owner("bob")
        await session.save()
        assert await store.sessions_of("ada") == []
        assert [info.details for info in await store.sessions_of("bob")] == [{}]


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10"])
def test_a_limit_of_the_memory_storage_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(ConfigError, match="max_sessions"):
        MemoryStorage(max_sessions=limit)
