"""Login, logout and rotation: which IDs are valid, whose data is there, and what the response tells the client."""

import pytest
from tests.kit import Lab, Work, destroy, login, max_age, read, regenerate, write
from tests.views import PlainView, Visitor

from sessioncore import Session, SessionGone, SessionNotFound, SessionStore

pytestmark = pytest.mark.anyio


@pytest.mark.proves("AT-27")
async def test_login_as_another_user_drops_the_first_users_data(lab: Lab) -> None:
    await lab.begin()
    async with lab.visitor.request() as session:
        await session.login("ada")
        session["secret"] = "ada's"
    async with lab.visitor.request() as session:
        session["written before the login"] = "still ada's"
        await session.login("bob")
        session["hello"] = "bob"
        assert dict(session) == {"hello": "bob"}
    async with lab.visitor.request() as session:
        assert (dict(session), session.owner) == ({"hello": "bob"}, "bob")
        for owner in ("ada", "bob", "bob"):  # switching back and forth keeps nobody's data
            await session.login(owner)
        assert dict(session) == {}
    async with lab.visitor.request() as session:
        assert (dict(session), session.owner) == ({}, "bob")
    assert await lab.store.sessions_of("ada") == []


async def test_data_stays_if_bind_owner_names_another_owner_beside_a_login(lab: Lab) -> None:
    await lab.begin()
    async with lab.visitor.request() as session:
        session.bind_owner("ada")
        await session.login("ada")
    async with lab.visitor.request() as session:
        await session.login("ada")
        session.bind_owner("bob")
        async with lab.store.open(lab.visitor.sid or "") as other:
            other["written meanwhile"] = True
    async with lab.visitor.request() as session:
        session.bind_owner("eve")
        await session.login("eve")
    assert await lab.data() == {"n": 1, "written meanwhile": True}


@pytest.mark.proves("AT-30")
async def test_destroy_leaves_the_id_as_it_is_until_something_is_written_and_reset_shows_the_next_one(lab: Lab) -> None:
    stored, moving = [await lab.store.create({"n": 1}, owner="ada") for _ in range(2)]
    await moving.regenerate()
    fresh = await lab.store.get(PlainView())
    for session in (stored, moving, fresh):
        before = session.id
        for _ in range(2):
            await session.destroy()
            assert (session.id, session.fresh, session.empty) == (before, True, True)
        session["n"] = 2
        after = session.id
        assert after != before
        await session.save()
        assert (session.id, session.fresh) == (after, False)
        assert await lab.data(after) == {"n": 2}
        assert await lab.found(before) is None
        await session.reset()
        promised = session.id
        assert promised not in {before, after}
        session["n"] = 3
        await session.save()
        found = await lab.kept(promised)
        assert (dict(found), found.owner, found.details) == ({"n": 3}, None, {})


@pytest.mark.proves("AT-31")
async def test_logout_without_a_session_stores_nothing_and_clears_an_unknown_cookie(lab: Lab) -> None:
    stranger = Visitor(lab.store)
    async with stranger.request() as session:
        await session.destroy()
        await session.destroy()
        await session.reset()
    assert stranger.headers == []
    assert lab.calls == []
    returning = Visitor(lab.store, sid="b" * 43)
    async with returning.request() as session:
        await session.destroy()
    assert returning.sid is None
    assert [name for name, _ in returning.headers] == ["set-cookie"]


async def test_a_logout_that_finds_nothing_does_not_claim_to_have_ended_a_session(lab: Lab) -> None:
    await lab.begin()
    first, second = await lab.visitor.arrive(), await lab.visitor.arrive()
    await second.session.regenerate()
    await second.commit(200)
    await first.session.destroy()
    assert lab.kinds() == ["regenerated", "gone"]


@pytest.mark.proves("AT-32")
async def test_rotations_do_no_io_until_the_commit_makes_one_move(lab: Lab) -> None:
    before = (await lab.begin()).sid
    async with lab.visitor.request() as session:
        await session.regenerate()
        between = session.id
        await session.login("ada")
        assert lab.calls == ["load"]
    assert lab.calls == ["load", "move"]
    assert len(lab.visitor.headers) == 1
    assert len({before, between, lab.visitor.sid}) == 3
    assert [await lab.found(sid) is not None for sid in (before, between, lab.visitor.sid)] == [False, False, True]


@pytest.mark.proves("P2", "AT-39", "AT-40")
async def test_a_session_that_was_ended_elsewhere_stays_gone_whatever_its_request_does_but_reset(lab: Lab) -> None:
    exchange = await lab.begin_request()
    session = exchange.session
    session["n"] = 2
    assert await lab.store.revoke(session.handle) is True
    with pytest.raises(SessionGone):
        await session.save()
    assert (dict(session), session.fresh) == ({}, True)  # nothing of it is shown any more
    for work in (write, regenerate, login):
        await work(session)
        with pytest.raises(SessionGone):
            await session.save()
    assert lab.kinds().count("gone") == 1
    await session.reset()
    session["n"] = 4
    await lab.visitor.leave(exchange)
    assert await lab.data() == {"n": 4}


@pytest.mark.proves("AT-26", "AT-34", "ASVS 7.5.1")
async def test_regenerate_keeps_the_deadline_and_login_begins_both_clocks_anew(lab: Lab) -> None:
    await lab.begin()
    async with lab.visitor.request() as session:
        began = session.created_at
        lab.clock.advance(1700)
        await session.regenerate()
    assert max_age(lab.visitor.headers) == 86400 - 1700
    async with lab.visitor.request() as session:
        assert session.created_at == began
        await session.login("ada")
        assert (session.created_at - began).total_seconds() == 1700
        assert (session.expires_at - session.created_at).total_seconds() == 1800
    assert max_age(lab.visitor.headers) == 86400
    lab.clock.advance(1799)
    async with lab.visitor.request() as session:
        assert (session.created_at - began).total_seconds() == 1700


async def test_a_request_sees_of_its_session_what_each_verb_says(lab: Lab) -> None:
    exchange = await lab.visitor.arrive()
    session = exchange.session
    assert (session.fresh, session.empty, session.modified) == (True, True, False)
    assert (session.owner, session.details) == (None, {})
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
    stored = await lab.store.get_by_id(sid)
    assert (stored.handle, stored.owner, stored.fresh, stored.store) == (handle, "ada", False, lab.store)
    assert len(handle) == 64
    assert sid not in handle
    await stored.regenerate()
    assert (stored.handle, stored.fresh) == (handle, False)  # the handle of the stored record
    assert stored.id != sid
    await stored.save()
    assert stored.handle != handle


@pytest.mark.proves("P6", "AT-29", "ASVS 16.2.5", "ASVS 16.3.3")
async def test_each_kind_of_event_is_sent_once_by_its_cause_and_never_with_an_id_or_a_value(lab: Lab) -> None:
    late = lab.beside(storage=lab.storage, clock=lambda: lab.clock() + 86401, on_event=lab.events.append)

    async def visit(cookie: str, work: Work = read, store: SessionStore = lab.store) -> str:
        visitor = Visitor(store, sid=cookie)
        async with visitor.request() as session:
            await work(session)
        return visitor.sid or ""

    async def revoked(session: Session) -> None:
        await lab.store.revoke(session.handle)
        session["n"] = 2

    first = (await lab.store.create({"n": "canary"}, owner="ada")).id
    lab.clock.advance(100)
    await visit(first)
    second = await visit(first, regenerate)
    for cookie in (first, "short", f"{'a' * 43}; __Host-session_id={'b' * 43}"):
        await visit(cookie)
    await visit(second, destroy)
    third, fourth = [(await lab.store.create({"n": 1})).id for _ in range(2)]
    await visit(third, revoked)
    await visit(fourth, store=late)
    assert lab.kinds() == [
        "created", "renewed", "regenerated", "unknown", "malformed", "ambiguous",
        "destroyed", "created", "created", "revoked", "gone", "expired",
    ]  # fmt: skip
    adas = [event.kind.value for event in lab.events if event.owner == "ada"]
    assert adas == ["created", "renewed", "regenerated", "destroyed"]
    assert not any(text in repr(lab.events) for text in (first, second, third, fourth, "canary"))


@pytest.mark.proves("P6", "AT-38", "AT-135")
async def test_the_raw_id_is_nowhere_but_with_the_client(lab: Lab) -> None:
    sid = (await lab.begin()).sid or ""
    exchange = await lab.visitor.arrive()
    session = exchange.session
    assert repr(lab.store) == f"<SessionStore {lab.store.storage!r}>"
    assert not any(sid in repr(one) for one in (session, exchange, lab.store, lab.store.config))
    with pytest.raises(TypeError):
        vars(session)
    assert sid.encode() not in (await lab.stored(session)).data
    with pytest.raises(SessionNotFound) as caught:
        await lab.store.get_by_id(sid[::-1])
    assert sid[::-1] not in str(caught.value)
