"""Attack list B: fixation, login, logout, and what each verb leaves behind."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.stores import SpyStorage
from tests.views import PlainView, Visitor, response_to

from sessioncore import (
    EventKind,
    LifecycleError,
    RequestView,
    ResponseStarted,
    SessionConfig,
    SessionEvent,
    SessionGone,
    SessionKey,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
    StorageUnavailable,
    Stored,
    UnregisteredType,
)

pytestmark = pytest.mark.anyio


class House:
    """A store on a storage that counts, with its events kept."""

    def __init__(self, **config: object) -> None:
        self.events: list[SessionEvent] = []
        self.storage = SpyStorage()
        self.store = SessionStore(
            SessionConfig(storage=self.storage, on_event=self.events.append, **config)  # type: ignore[arg-type]
        )

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    def visitor(self) -> Visitor:
        return Visitor(self.store)

    async def alive(self, sid: str | None) -> bool:
        exchange = await Visitor(self.store).arrive(sid)
        found = not exchange.session.fresh
        await exchange.finish()
        return found


async def begin(house: House, **data: object) -> Visitor:
    """Return a visitor with a stored session."""
    visitor = house.visitor()
    exchange = await visitor.arrive()
    exchange.session.update(data or {"cart": ["tea"]})
    await visitor.leave(exchange)
    assert visitor.sid is not None
    return visitor


async def test_an_id_that_we_did_not_issue_never_becomes_valid() -> None:
    house = House()
    chosen = "a" * 43
    visitor = house.visitor()
    visitor.sid = chosen
    exchange = await visitor.arrive()
    await exchange.session.login("victim")
    await visitor.leave(exchange)
    assert visitor.sid not in {None, chosen}
    assert not await house.alive(chosen)
    assert "unknown" in house.kinds()


async def test_login_ends_the_planted_anonymous_session_at_once() -> None:
    house = House()
    attacker = await begin(house)
    planted = attacker.sid
    victim = house.visitor()
    victim.sid = planted
    exchange = await victim.arrive()
    await exchange.session.login("victim")
    await victim.leave(exchange)
    assert not await house.alive(planted)
    assert await house.alive(victim.sid)
    assert len(house.storage.inner) == 1


async def test_login_keeps_the_cart_and_changes_the_id() -> None:
    house = House()
    visitor = await begin(house, cart=["tea"])
    before = visitor.sid
    exchange = await visitor.arrive()
    session = exchange.session
    await session.login("ada", device="laptop")
    session["since"] = 1
    await visitor.leave(exchange)
    assert visitor.sid != before
    after = await visitor.arrive()
    assert dict(after.session) == {"cart": ["tea"], "since": 1}
    assert after.session.owner == "ada"
    assert after.session.details == {"device": "laptop"}


async def test_login_as_another_user_drops_the_first_users_data() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    exchange.session["secret"] = "ada's"
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    exchange.session["written before the login"] = "still ada's"
    await exchange.session.login("bob")
    exchange.session["hello"] = "bob"
    assert dict(exchange.session) == {"hello": "bob"}
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"hello": "bob"}
    assert exchange.session.owner == "bob"
    assert await house.store.sessions_of("ada") == []


@pytest.mark.parametrize("verb", ["reset", "destroy"])
async def test_logout_ends_the_record_and_clears_the_cookie(verb: str) -> None:
    house = House()
    visitor = await begin(house)
    sid = visitor.sid
    exchange = await visitor.arrive()
    await getattr(exchange.session, verb)()
    assert dict(exchange.session) == {}
    assert not await house.alive(sid)  # before the response, and for every process
    headers = await visitor.leave(exchange)
    assert headers == [
        (
            "set-cookie",
            "__Host-session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; "  # noqa: ISC004
            "Path=/; HttpOnly; Secure; SameSite=Lax",
        )
    ]
    assert len(house.storage.inner) == 0
    assert "destroyed" in house.kinds()


async def test_reset_shows_the_next_id_and_destroy_keeps_the_old_one_until_something_is_written() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    before = exchange.session.id
    await exchange.session.destroy()
    assert exchange.session.id == before
    exchange.session["new"] = 1
    assert exchange.session.id != before
    await exchange.session.reset()
    promised = exchange.session.id
    exchange.session["newer"] = 2
    await visitor.leave(exchange)
    assert visitor.sid == promised
    found = await visitor.arrive()
    assert dict(found.session) == {"newer": 2}
    assert found.session.owner is None


async def test_a_session_written_after_logout_has_no_owner_and_none_of_the_old_data() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    await exchange.session.login("ada", device="laptop")
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    await exchange.session.reset()
    exchange.session["flash"] = "bye"
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert (dict(exchange.session), exchange.session.owner, exchange.session.details) == ({"flash": "bye"}, None, {})


async def test_anonymous_logout_stores_nothing_and_is_no_error() -> None:
    house = House()
    for _ in range(100):
        visitor = house.visitor()
        exchange = await visitor.arrive()
        await exchange.session.destroy()
        await exchange.session.destroy()
        await exchange.session.reset()
        assert await visitor.leave(exchange) == []
    assert house.storage.calls == []


async def test_logout_with_an_unknown_cookie_clears_it() -> None:
    house = House()
    visitor = house.visitor()
    visitor.sid = "b" * 43
    exchange = await visitor.arrive()
    await exchange.session.destroy()
    assert [name for name, _ in await visitor.leave(exchange)] == ["set-cookie"]
    assert visitor.sid is None


async def test_two_rotations_in_one_request_leave_one_record_and_one_cookie() -> None:
    house = House()
    visitor = await begin(house)
    before = visitor.sid
    exchange = await visitor.arrive()
    await exchange.session.regenerate()
    between = exchange.session.id
    await exchange.session.regenerate()
    headers = await visitor.leave(exchange)
    assert len(headers) == 1
    assert len({before, between, visitor.sid}) == 3
    assert [await house.alive(sid) for sid in (before, between, visitor.sid)] == [False, False, True]
    assert len(house.storage.inner) == 1


async def test_regenerate_does_no_io_until_the_commit() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    house.storage.calls.clear()
    await exchange.session.regenerate()
    await exchange.session.login("ada")
    assert house.storage.calls == []
    await visitor.leave(exchange)
    assert house.storage.calls == ["move"]


async def test_rotation_keeps_the_absolute_deadline_and_login_begins_a_new_one() -> None:
    now = [1_000_000.0]
    house = House(clock=lambda: now[0])
    visitor = await begin(house)
    exchange = await visitor.arrive()
    began = exchange.session.created_at
    now[0] += 60
    await exchange.session.regenerate()
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert exchange.session.created_at == began
    await exchange.session.login("ada")
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert exchange.session.created_at == began + timedelta(seconds=60)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_error_drops_changes_and_rotation_and_keeps_the_old_session(status: int) -> None:
    house = House()
    visitor = await begin(house, n=1)
    before = visitor.sid
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    await exchange.session.login("ada")
    assert await visitor.leave(exchange, status) == []
    assert visitor.sid == before
    exchange = await visitor.arrive()
    assert (dict(exchange.session), exchange.session.owner) == ({"n": 1}, None)


async def test_a_server_error_does_not_take_back_a_logout() -> None:
    house = House()
    visitor = await begin(house)
    sid = visitor.sid
    exchange = await visitor.arrive()
    await exchange.session.reset()
    exchange.session["lost"] = 1
    await visitor.leave(exchange, 500)
    assert visitor.sid is None
    assert not await house.alive(sid)
    assert len(house.storage.inner) == 0


async def test_what_was_saved_explicitly_survives_a_server_error_and_the_client_learns_its_id() -> None:
    house = House()
    visitor = house.visitor()
    exchange = await visitor.arrive()
    exchange.session["order"] = 7
    await exchange.session.save()
    exchange.session["order"] = 8
    await visitor.leave(exchange, 500)
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"order": 7}


@pytest.mark.parametrize("end", ["server error", "release", "answer", "farewell"])
async def test_after_a_saved_login_the_client_is_told_what_is_stored_and_not_what_was_to_be(end: str) -> None:
    house = House()
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    await exchange.session.save()
    await exchange.session.regenerate()
    match end:
        case "answer" | "farewell":
            met = RuntimeError() if end == "farewell" else SessionGone("as the handler met it")
            said = response_to(exchange, met)
            [told] = [value for name, value in said.headers if name == "set-cookie"]
            visitor.sid = told.partition(";")[0].partition("=")[2]
            exchange.session["late"] = 1  # after a failure nothing more is stored
            await exchange.finish()
        case _:
            if end == "release":
                exchange.session.release()
            await visitor.leave(exchange, 200 if end == "release" else 500)
    exchange = await visitor.arrive()
    assert (dict(exchange.session), exchange.session.owner) == ({"n": 1}, "ada")


async def test_logins_back_and_forth_in_one_request_leave_nothing_of_anybody() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    exchange.session["secret"] = "ada's"
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    for owner in ("bob", "ada", "ada"):
        await exchange.session.login(owner)
    assert dict(exchange.session) == {}
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert (dict(exchange.session), exchange.session.owner) == ({}, "ada")


async def test_save_on_server_error_keeps_everything() -> None:
    house = House(save_on_server_error=True)
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    await visitor.leave(exchange, 500)
    exchange = await visitor.arrive()
    assert exchange.session["n"] == 2


async def test_reads_write_nothing_and_send_nothing() -> None:
    house = House()
    visitor = await begin(house, n=1, items=[1, {"a": (2, 3)}])
    house.storage.calls.clear()
    for _ in range(20):
        exchange = await visitor.arrive()
        assert exchange.session["items"] == [1, {"a": (2, 3)}]
        assert await visitor.leave(exchange) == []
    assert house.storage.calls == ["load"] * 20


async def test_an_untouched_request_without_an_id_makes_no_storage_call() -> None:
    house = House()
    for _ in range(100):
        exchange = await house.visitor().arrive()
        assert await exchange.commit(200) == []
        await exchange.finish()
    reader = house.visitor()
    exchange = await reader.arrive()
    assert exchange.session.get("n") is None
    assert exchange.session.id
    assert await reader.leave(exchange) == []
    assert house.storage.calls == []


async def test_writing_and_deleting_again_stores_nothing_for_a_visitor() -> None:
    house = House()
    visitor = house.visitor()
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    del exchange.session["n"]
    exchange.session.set_idle_timeout(timedelta(hours=1))
    assert await visitor.leave(exchange) == []
    assert house.storage.calls == []


async def test_deleting_the_only_key_is_stored() -> None:
    house = House()
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    del exchange.session["n"]
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert not exchange.session.fresh
    assert exchange.session.empty


async def test_setting_a_key_to_what_it_was_writes_nothing() -> None:
    house = House()
    visitor = await begin(house, n=1)
    house.storage.calls.clear()
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    assert await visitor.leave(exchange) == []
    assert house.storage.calls == ["load"]


async def test_a_change_in_place_is_stored() -> None:
    house = House()
    visitor = await begin(house, cart={"tea": [1]})
    exchange = await visitor.arrive()
    exchange.session["cart"]["tea"].append(2)
    assert exchange.session.modified
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert exchange.session["cart"] == {"tea": [1, 2]}


async def test_a_value_that_cannot_be_stored_fails_before_any_write_and_names_its_key() -> None:
    house = House()
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    exchange.session["socket"] = object()
    house.storage.calls.clear()
    with pytest.raises(UnregisteredType, match=r"'socket'.*builtins\.object"):
        await exchange.commit(200)
    await exchange.finish()
    assert house.storage.calls == []
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"n": 1}


async def test_a_storage_failure_is_an_error_on_first_use_and_never_an_anonymous_visitor() -> None:
    house = House()
    visitor = await begin(house)
    house.storage.fail("load")
    exchange = await visitor.arrive()
    for use in (lambda: exchange.session["n"], lambda: len(exchange.session), lambda: exchange.session.id):
        with pytest.raises(StorageUnavailable):
            use()
    with pytest.raises(StorageUnavailable):
        exchange.session["n"] = 1
    with pytest.raises(StorageUnavailable):
        await exchange.session.destroy()
    assert await visitor.leave(exchange) == []  # the route that did not need it answers as usual
    house.storage.restore()
    assert await house.alive(visitor.sid)


async def test_a_failed_commit_sends_no_cookie() -> None:
    house = House()
    visitor = house.visitor()
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    house.storage.fail("create")
    with pytest.raises(StorageUnavailable) as caught:
        await exchange.commit(200)
    answer = response_to(exchange, caught.value)
    assert answer.status == 503
    assert answer.body == b"Service Unavailable"
    assert "set-cookie" not in dict(answer.headers)
    await exchange.finish(failed=True)


async def test_a_failed_logout_is_an_error_and_changes_nothing() -> None:
    house = House()
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    house.storage.fail("delete")
    with pytest.raises(StorageUnavailable):
        await exchange.session.destroy()
    assert dict(exchange.session) == {"n": 1}
    house.storage.restore()
    assert await visitor.leave(exchange) == []


async def test_after_the_response_started() -> None:
    house = House()
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    await exchange.commit(200)
    session = exchange.session
    session["late"] = True
    for verb in (session.regenerate, session.reset):
        with pytest.raises(ResponseStarted):
            await verb()
    with pytest.raises(ResponseStarted):
        await session.login("ada")
    await exchange.finish()
    exchange = await visitor.arrive()
    assert exchange.session["late"] is True
    await exchange.commit(200)
    await exchange.session.destroy()
    with pytest.raises(ResponseStarted):
        exchange.session["x"] = 1
    await exchange.finish()
    assert not await house.alive(visitor.sid)


async def test_the_first_write_of_a_fresh_session_after_the_start_is_refused() -> None:
    house = House()
    exchange = await house.visitor().arrive()
    await exchange.commit(200)
    with pytest.raises(ResponseStarted):
        exchange.session["n"] = 1
    with pytest.raises(ResponseStarted):
        exchange.session.bind_owner("ada")
    await exchange.finish()
    assert house.storage.calls == []


async def test_a_session_created_by_this_response_may_be_written_late() -> None:
    house = House()
    visitor = house.visitor()
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    headers = await exchange.commit(200)
    exchange.session["n"] = 2
    await exchange.finish()
    visitor.sid = headers[0][1].split(";")[0].partition("=")[2]
    exchange = await visitor.arrive()
    assert exchange.session["n"] == 2


async def test_a_released_session_shows_what_is_stored_and_takes_no_change() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    session = exchange.session
    session["n"] = 1
    session.release()
    session.release()
    assert (dict(session), session.id, session.fresh) == ({"cart": ["tea"]}, visitor.sid, False)
    assert (session.owner, session.details, session.modified, session.accessed) == (None, {}, False, True)
    assert session.handle in repr(session)
    changes: list[Callable[[], object]] = [
        lambda: session.update(n=2),
        lambda: session.pop("cart"),
        lambda: session.mutate("n", lambda n: n, default=1),
        lambda: session.bind_owner("ada"),
        lambda: session.set_idle_timeout(None),
    ]
    for change in changes:
        with pytest.raises(SessionReleased):
            change()
    for verb in (session.save, session.regenerate, session.reset, session.destroy, lambda: session.login("ada")):
        with pytest.raises(SessionReleased):
            await verb()
    assert await visitor.leave(exchange) == []
    exchange = await visitor.arrive()
    assert dict(exchange.session) == dict(session) == {"cart": ["tea"]}


async def test_what_changes_inside_a_value_of_a_released_session_is_stored_nowhere() -> None:
    house = House()
    visitor = await begin(house)
    notes = SessionKey("notes", list[str], default_factory=list)
    exchange = await visitor.arrive()
    session = exchange.session
    session.release()
    session["cart"].append("milk")
    session[notes].append("first")
    assert list(session) == ["cart"]
    house.storage.calls.clear()
    assert await visitor.leave(exchange) == []
    session[notes].append("second")
    assert not session.get("other")
    assert house.storage.calls == []
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"cart": ["tea"]}


async def test_a_session_that_could_not_be_used_goes_on_saying_so_after_its_request() -> None:
    def skip(view: RequestView) -> bool:
        return view.path == "/health"

    house = House(skip=skip)
    visitor = await begin(house)
    cookies = [f"__Host-session_id={visitor.sid}".encode()]
    house.storage.fail("load")
    for view, error in ((PlainView(cookies), StorageUnavailable), (PlainView(path="/health"), SessionNotLoaded)):
        exchange = house.store.exchange(view)
        await exchange.load()
        await exchange.commit(200)
        await exchange.finish()
        exchange.session.release()
        with pytest.raises(error):
            exchange.session.get("cart")
        with pytest.raises(error):
            exchange.session["cart"] = []


async def test_gone_is_an_error_for_save_and_none_for_the_response() -> None:
    house = House()
    visitor = await begin(house, n=1)
    slow = await visitor.arrive()
    slow.session["n"] = 2
    other = await visitor.arrive()
    await other.session.destroy()
    await other.finish()
    with pytest.raises(SessionGone):
        await slow.session.save()
    assert (dict(slow.session), slow.session.fresh) == ({}, True)  # nothing of it is shown on, either
    slow.session["n"] = 3
    with pytest.raises(SessionGone):
        await slow.session.save()
    assert await slow.commit(200) == []
    await slow.finish()
    assert len(house.storage.inner) == 0
    assert house.kinds().count("gone") == 1


async def test_a_gone_session_can_begin_anew_after_reset() -> None:
    house = House()
    visitor = await begin(house, n=1)
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    assert await house.store.delete(visitor.sid or "")
    with pytest.raises(SessionGone):
        await exchange.session.save()
    await exchange.session.reset()
    exchange.session["n"] = 3
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"n": 3}


async def test_events_never_hold_an_id_or_a_value() -> None:
    house = House()
    visitor = await begin(house, n="canary-value")
    sids = [visitor.sid]
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    await visitor.leave(exchange)
    sids.append(visitor.sid)
    exchange = await visitor.arrive()
    await exchange.session.reset()
    await visitor.leave(exchange)
    assert [e.kind for e in house.events] == [EventKind.CREATED, EventKind.LOGIN, EventKind.DESTROYED]
    text = repr(house.events)
    assert "canary-value" not in text
    assert not any(sid in text for sid in sids if sid)


async def test_an_unlisted_step_is_refused() -> None:
    house = House()
    session = await house.store.create({"n": 1})
    session.release()
    with pytest.raises(LifecycleError):
        await session.regenerate()


async def test_the_raw_id_is_nowhere_but_with_the_client() -> None:
    house = House()
    visitor = await begin(house)
    assert visitor.sid is not None
    exchange = await visitor.arrive()
    session = exchange.session
    shown = [repr(session), str(session), repr(exchange), repr(house.store.config)]
    assert not any(visitor.sid in text for text in shown)
    with pytest.raises(TypeError):
        vars(session)
    stored = await house.storage.inner.load(house.store.config.key_prefix + session.handle)
    assert isinstance(stored, Stored)
    assert visitor.sid.encode() not in stored.data


async def test_a_view_with_the_handle_or_the_key_as_id_finds_nothing() -> None:
    house = House()
    session = await house.store.create({"n": 1})
    for text in (session.handle, f"session:{session.handle}", f"2::{session.handle}"):
        view = PlainView([f"__Host-session_id={text}".encode()])
        exchange = house.store.exchange(view)
        await exchange.load()
        assert exchange.session.fresh
        await exchange.finish()


async def test_a_key_that_was_removed_and_saved_can_be_mutated_anew() -> None:
    session = await SessionStore().create({})
    session.mutate("items", lambda items: [*items, 1], default=[])
    await session.save()
    del session["items"]
    await session.save()
    assert not session.modified
    assert session.mutate("items", lambda items: [*items, 2], default=[]) == [2]
    await session.save()
    assert dict(await SessionStore(session.store.config).get_by_id(session.id)) == {"items": [2]}


@pytest.mark.parametrize("rotate", [False, True])
async def test_what_was_saved_before_the_release_reaches_the_client(rotate: bool) -> None:
    house = House()
    visitor = await begin(house, n=1) if rotate else house.visitor()
    old = visitor.sid
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    if rotate:
        await exchange.session.regenerate()
    await exchange.session.save()
    exchange.session.release()
    await visitor.leave(exchange)
    assert visitor.sid not in {None, old}
    exchange = await visitor.arrive()
    assert exchange.session["n"] == 2


async def test_a_logout_before_the_release_clears_the_cookie() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    await exchange.session.destroy()
    exchange.session.release()
    [(name, line)] = await visitor.leave(exchange)
    assert name == "set-cookie"
    assert "Max-Age=0" in line


async def test_a_rotation_that_was_not_saved_before_the_release_is_dropped_with_its_id() -> None:
    house = House()
    visitor = await begin(house, n=1)
    old = visitor.sid
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    await exchange.session.save()
    await exchange.session.regenerate()
    exchange.session.release()
    assert await visitor.leave(exchange) == []
    assert visitor.sid == old
    assert await house.alive(old)


async def test_an_id_that_was_saved_and_not_announced_is_owed_until_the_response_tells_it() -> None:
    house = House()
    visitor = await begin(house)
    exchange = await visitor.arrive()
    assert exchange.error_response(RuntimeError()) is None
    await exchange.session.regenerate()
    assert exchange.error_response(RuntimeError()) is None
    await exchange.session.save()
    exchange.session["late"] = 1
    answer = response_to(exchange, RuntimeError())
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    visitor.sid = dict(answer.headers)["set-cookie"].split(";")[0].partition("=")[2]
    await exchange.finish(failed=True)
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"cart": ["tea"]}


async def test_a_default_that_is_changed_in_a_stream_is_not_lost_in_silence() -> None:
    house = House()
    cart = SessionKey("cart", list[str], default_factory=list)
    exchange = await house.visitor().arrive()
    assert exchange.session[cart] == []
    assert await exchange.commit(200) == []
    exchange.session[cart].append("tea")
    with pytest.raises(ResponseStarted):
        await exchange.finish()
    exchange = await house.visitor().arrive()
    assert exchange.session[cart] == []  # only looked at: nothing to say
    assert await exchange.commit(200) == []
    await exchange.finish()
    assert house.storage.calls == []


@pytest.mark.parametrize("view", ["keys", "values", "items"])
async def test_asking_for_a_view_of_the_session_is_use(view: str) -> None:
    exchange = await House().visitor().arrive()
    shown = getattr(exchange.session, view)()
    assert exchange.session.accessed
    assert list(shown) == []
    await exchange.finish()
    assert list(getattr(exchange.session, view)()) == []
