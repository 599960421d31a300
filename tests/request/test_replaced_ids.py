"""A request that is late, with an ID that a login or regenerate has just replaced (promises P2 and P4)."""

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from tests.kit import Lab, lose
from tests.stores import PromptStorage, SpyStorage
from tests.views import PlainView, obtain

from sessioncore import Exchange, SessionGone, SessionNotFound, StorageUnavailable, chain, from_cookie, from_header
from sessioncore.http._ids import handle_of
from sessioncore.storage import AnswersNow, Clears, KeepsTombstones, Moved

pytestmark = pytest.mark.anyio

COOKIE = "__Host-session_id"


class SpyWithTombstones(SpyStorage):
    capabilities: ClassVar[frozenset[type]] = frozenset({Clears, KeepsTombstones})


class PromptWithTombstones(PromptStorage):
    capabilities: ClassVar[frozenset[type]] = frozenset({AnswersNow, Clears, KeepsTombstones})


class Site(Lab):
    """A lab whose storage keeps tombstones."""

    def __init__(self, kind: type[SpyStorage] = SpyWithTombstones, **config: Any) -> None:
        super().__init__(kind=kind, **config)

    async def start(self) -> str:
        """Store an anonymous session; return its ID."""
        await self.begin(cart=["tea"])
        assert self.visitor.sid is not None
        return self.visitor.sid

    async def log_in(self, owner: str = "ada") -> str:
        """Log in with the visitor's cookie; return the new ID."""
        async with self.visitor.request() as session:
            await session.login(owner)
        self.events.clear()
        assert self.visitor.sid is not None
        return self.visitor.sid

    async def late(self, *sids: str) -> Exchange:
        """Begin a request with these IDs in its cookies."""
        return await self.visitor.arrive(f"; {COOKIE}=".join(sids))

    async def ended(self, *sids: str) -> bool:
        return all([await self.found(sid) is None for sid in sids])


@pytest.fixture(params=[SpyWithTombstones, PromptWithTombstones])
def site(request: pytest.FixtureRequest) -> Site:
    return Site(request.param)


@pytest.mark.proves("P4", "AT-24")
async def test_a_late_request_reads_as_fresh_and_its_writes_are_dropped(site: Site) -> None:
    old = await site.start()
    new = await site.log_in()
    exchange = await site.late(old)
    session = exchange.session
    assert session.fresh
    assert dict(session) == {}
    assert session.owner is None
    assert session.id not in {old, new}
    assert session.handle == handle_of(session.id), "the handle of the session that would be created"
    assert site.kinds() == ["stale_id"]
    session["seen"] = True
    session.bind_owner("mallory")
    session.set_idle_timeout(timedelta(minutes=1))
    await session.regenerate()
    with pytest.raises(SessionGone):
        await session.save()
    assert await site.visitor.leave(exchange) == []
    assert "create" not in site.calls, "only the browser's first session was ever created"
    assert await site.data(new) == {"cart": ["tea"]}
    assert await site.store.sessions_of("mallory") == []
    with pytest.raises(SessionNotFound):
        await site.store.get_by_id(old)


@pytest.mark.proves("P4", "AT-42")
@pytest.mark.parametrize("saves", [True, False])
async def test_a_request_that_began_before_the_login_takes_nothing_away(site: Site, saves: bool) -> None:
    old = await site.start()
    late = await site.late(old)
    late.session.mutate("cart", lambda cart: [*cart, "milk"])
    late.session["seen"] = True
    new = await site.log_in()
    if saves:
        with pytest.raises(SessionGone):
            await late.session.save()
        late.session["again"] = True
    assert await late.commit(200) == []
    late.session["streamed"] = True  # needs no new ID: it is dropped, too
    with pytest.raises(SessionGone):
        await late.session.save()
    await late.finish()
    assert site.kinds() == ["stale_id"]
    assert await site.data(new) == {"cart": ["tea"]}


@pytest.mark.parametrize("loaded_before", [True, False])
async def test_a_second_login_with_the_old_id_makes_a_session_of_its_own(site: Site, loaded_before: bool) -> None:
    """After a double click there are two sessions, the second one without the anonymous data."""
    old = await site.start()
    late = await site.late(old) if loaded_before else None
    first = await site.log_in()
    late = late or await site.late(old)
    late.session["theme"] = "dark"
    late.session.mutate("visits", lambda visits: visits + 1, default=0)
    await late.session.login("ada")
    [(name, line)] = await late.commit(200)
    second = late.session.id
    assert (name, second in line) == ("set-cookie", True)
    assert second not in {old, first}
    assert dict(late.session) == {"theme": "dark", "visits": 1}
    await late.finish()
    assert await site.data(second) == {"theme": "dark", "visits": 1}
    assert await site.data(first) == {"cart": ["tea"]}
    assert len(await site.store.sessions_of("ada")) == 2
    assert site.kinds().count("created") == 1


@pytest.mark.parametrize("lost", ["the response", "the storage's reply"])
async def test_a_visitor_who_never_saw_the_login_is_anonymous_until_the_next_one(site: Site, lost: str) -> None:
    old = await site.start()
    first = await site.late(old)
    await first.session.login("ada")
    if lost == "the response":
        assert await first.commit(200) != []
    else:
        site.storage.after["move"] = lose
        with pytest.raises(StorageUnavailable):
            await first.commit(200)
    await first.finish()
    reading = await site.late(old)
    reading.session["seen"] = (reading.session.owner, dict(reading.session))
    assert reading.session["seen"] == (None, {})
    assert await site.visitor.leave(reading) == []
    second = await site.late(old)
    await second.session.login("ada")
    [(name, line)] = await site.visitor.leave(second)
    assert (name, line.startswith(f"{COOKIE}={second.session.id};")) == ("set-cookie", True)
    assert (await site.kept(second.session.id)).owner == "ada"


@pytest.mark.parametrize("stored", [False, True])
async def test_a_login_on_an_ended_session_is_dropped(site: Site, stored: bool) -> None:
    """P2 also holds if the move arrived, its reply was lost, and the session was ended under its new ID."""
    old = await site.start()
    late = await site.late(old)
    await late.session.login("ada")
    if stored:
        with site.storage.lose_reply("move", times=1), pytest.raises(StorageUnavailable):
            await late.session.save()
        assert await site.store.revoke_all("ada") == 1
        with pytest.raises(SessionGone):
            await late.session.save()
    else:
        await site.store.delete(old)
    assert await late.commit(200) == []
    assert await site.store.sessions_of("ada") == []


@pytest.mark.proves("P2")
@pytest.mark.parametrize("loaded_before", [True, False])
@pytest.mark.parametrize("verb", ["destroy", "reset"])
async def test_a_logout_with_an_old_id_ends_the_session_where_it_is(site: Site, verb: str, loaded_before: bool) -> None:
    old = await site.start()
    late = await site.late(old) if loaded_before else None
    middle = await site.log_in()
    new = await site.log_in()
    late = late or await site.late(old)
    assert (late.session.id == old) is loaded_before
    await getattr(late.session, verb)()
    [(name, line)] = await site.visitor.leave(late)
    assert (name, "Max-Age=0" in line) == ("set-cookie", True), "the cookie with the old ID is cleared"
    assert "destroyed" in site.kinds()
    assert await site.ended(old, middle, new)


@pytest.mark.proves("P2")
async def test_delete_and_revoke_follow_a_session_that_moved(site: Site) -> None:
    old = await site.start()
    handle = (await site.late(old)).session.handle
    new = await site.log_in()
    assert await site.store.revoke(handle, owner="grace") is False
    assert await site.data(new) == {"cart": ["tea"]}
    assert await site.store.revoke(handle, owner="ada") is True
    assert await site.ended(new)
    assert await site.store.revoke(handle, owner="ada") is False
    old = await site.start()
    new = await site.log_in()
    assert await site.store.delete(old) is True
    assert await site.ended(new)

    async def damaged(key: str, *, renew: float | None = None) -> Moved:
        return Moved(key)  # a tombstone that leads to itself

    site.storage.load = damaged  # type: ignore[method-assign]
    assert await site.store.revoke(handle, owner="ada") is False


async def test_a_stale_cookie_does_not_hide_a_live_header_and_is_not_hidden_by_one_that_is_damaged() -> None:
    site = Site(extractor=chain(from_cookie(COOKIE), from_header("X-Session")))
    old = await site.start()
    new = await site.log_in()
    exchange = site.store.exchange(PlainView([f"{COOKIE}={old}".encode()], [("X-Session", new)]))
    session = await obtain(exchange)
    assert dict(session) == {"cart": ["tea"]}
    session["seen"] = True
    await site.visitor.leave(exchange)
    assert await site.data(new) == {"cart": ["tea"], "seen": True}
    await site.storage.inner.create(f"session:{handle_of('d' * 43)}", b"damaged", 60)
    exchange = site.store.exchange(PlainView([f"{COOKIE}={old}".encode()], [("X-Session", "d" * 43)]))
    (await obtain(exchange))["seen"] = False
    assert await exchange.commit(200) == []


async def test_after_the_window_the_id_is_unknown_like_any_other_and_a_window_of_zero_remembers_nothing() -> None:
    for window, seconds, kind in ((30, 29, "stale_id"), (30, 31, "unknown"), (0, 0, "unknown")):
        site = Site(stale_id_window=timedelta(seconds=window))
        old = await site.start()
        await site.log_in()
        site.clock.advance(seconds)
        late = await site.late(old)
        assert site.kinds() == [kind]
        late.session["seen"] = True
        assert len(await late.commit(200)) == (kind == "unknown")


@pytest.mark.parametrize("logs_in", [True, False])
@pytest.mark.parametrize("operation", ["create", "replace", "move"])
async def test_a_lost_reply_makes_no_moved_session_twice_and_keeps_a_login(operation: str, logs_in: bool) -> None:
    site = Site()
    if operation != "create":
        await site.start()
    exchange = await site.visitor.arrive()
    session = exchange.session
    session["seen"] = True
    if operation == "move":
        await session.regenerate()
    with site.storage.lose_reply(operation, times=1), pytest.raises(StorageUnavailable):
        await session.save()
    other = await site.late(session.id)
    await other.session.login("ada")
    await other.commit(200)
    if logs_in:
        await session.login("grace")
        assert len(await exchange.commit(200)) == 1
        assert dict(session) == ({"seen": True} if operation == "replace" else {})
    else:
        with pytest.raises(SessionGone):
            await session.save()
        assert len(await site.store.sessions_of("ada")) == 1
        await session.destroy()
    assert [len(await site.store.sessions_of(owner)) for owner in ("ada", "grace")] == [int(logs_in)] * 2


async def test_a_login_over_the_limit_by_an_old_id_is_undone_without_a_trace() -> None:
    site = Site(max_sessions_per_owner=1, on_owner_limit="refuse")
    old = await site.start()
    late = await site.late(old)
    late.session["seen"] = True
    await late.session.login("ada")

    site.storage.before["move"] = site.log_in
    with pytest.raises(Exception, match="max_sessions_per_owner"):
        await site.visitor.leave(late)
    assert len(await site.store.sessions_of("ada")) == 1
    assert await site.data(site.visitor.sid or "") == {"cart": ["tea"]}


async def test_what_a_request_with_two_ids_writes_is_dropped_and_a_logout_clears_the_cookie(site: Site) -> None:
    first, second = await site.start(), await site.log_in()
    exchange = await site.late(first, second)
    assert site.kinds() == ["ambiguous"]
    assert dict(exchange.session) == {}
    exchange.session["seen"] = True
    assert await site.visitor.leave(exchange) == []
    exchange = await site.late(first, second)
    exchange.session["theme"] = "dark"
    await exchange.session.login("ada")
    assert len(await exchange.commit(200)) == 1
    assert await site.data(exchange.session.id) == {"theme": "dark"}
    exchange = await site.late(first, second)
    await exchange.session.destroy()
    assert "Max-Age=0" in (await exchange.commit(200))[0][1]
    assert await site.data(second) == {"cart": ["tea"]}, "no ID of the request was used"


async def test_a_login_of_another_task_is_kept_when_this_ones_write_finds_the_record_moved() -> None:
    site = Site()
    old = await site.start()
    late = await site.late(old)
    late.session["seen"] = True

    async def log_in_meanwhile() -> None:
        await site.log_in()
        await late.session.login("grace")

    site.storage.before["replace"] = log_in_meanwhile
    assert [name for name, _ in await late.commit(200)] == ["set-cookie"]
    assert dict(late.session) == {"seen": True}
    await late.finish()
    assert len(await site.store.sessions_of("grace")) == 1
    assert len(await site.store.sessions_of("ada")) == 1
