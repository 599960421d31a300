"""A session's own timeouts and cookie: set_idle_timeout, set_absolute_timeout and set_persistent."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
from tests.kit import Lab, destroy, doing, login, lose, max_age, regenerate, reset
from tests.views import PlainView, Visitor

from sessioncore import EventKind, OwnerLimitReached, Session, StorageUnavailable, chain, from_cookie, from_header
from sessioncore.session._session import state_of

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
E = 0.001  # seconds, the least distance of a test from a deadline
SESSION_ONLY: dict[str, Any] = {"cookie_session_only": True}
ENDLESS: dict[str, Any] = {"absolute_timeout": None}


class Own(NamedTuple):
    """The settings of a session; None: as configured."""

    idle: float | None = None
    absolute: float | None = None
    persistent: bool | None = None


CONFIGURED, REMEMBERED = Own(), Own(14 * DAY, 30 * DAY, persistent=True)


def remember(session: Session, own: Own = REMEMBERED) -> None:
    """Set what is not None."""
    if own.idle is not None:
        session.set_idle_timeout(timedelta(seconds=own.idle))
    if own.absolute is not None:
        session.set_absolute_timeout(timedelta(seconds=own.absolute))
    if own.persistent is not None:
        session.set_persistent(own.persistent)


def write(session: Session) -> None:
    session["n"] = 2


def forget(session: Session) -> None:
    session.set_idle_timeout(None)
    session.set_absolute_timeout(None)
    session.set_persistent(None)


async def settings(lab: Lab) -> Own:
    """What is stored with the visitor's session."""
    loaded = state_of(await lab.kept()).loaded
    assert loaded is not None
    return Own(loaded.record.idle, loaded.record.absolute, loaded.record.persistent)


async def ask(lab: Lab, work: Callable[[Session], object] | None = None) -> list[str]:
    """Make a request that uses the session, and return its Set-Cookie lines."""
    async with lab.visitor.request() as session:
        session.get("n")
        if work is not None:
            work(session)
    return [value for name, value in lab.visitor.headers if name == "set-cookie"]


async def test_settings_that_change_send_one_cookie_and_what_is_stored_already_is_not_written_again(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        await session.login("ada", device="laptop")
    async with lab.visitor.request() as session:
        remember(session)
        await session.save()
        session["n"] = 2
    assert max_age(lab.visitor.headers) == 30 * DAY

    def repeat(session: Session) -> None:
        remember(session)
        session.bind_owner("ada", device="laptop")

    lab.forget()
    assert await ask(lab, repeat) == []
    assert (lab.calls, lab.kinds()) == (["load"], [])
    await ask(lab, lambda session: session.bind_owner("ada"))
    await ask(lab, lambda session: session.set_persistent(None))
    assert await ask(lab, lambda session: session.set_idle_timeout(timedelta(hours=2))) == []
    assert lab.calls == ["load", *["load", "replace"] * 3]


# -- the absolute timeout


@pytest.mark.proves("ASVS 7.3.2")
@pytest.mark.parametrize("absolute", [10 * MINUTE, 3 * DAY])
@pytest.mark.parametrize("config", [{}, ENDLESS, {"touch_interval": timedelta()}], ids=["day", "endless", "each load"])
async def test_an_own_absolute_timeout_ends_the_session_at_its_time_however_much_it_is_used(
    config: dict[str, Any], absolute: float
) -> None:
    given: dict[str, Any] = {"idle_timeout": timedelta(minutes=5), **config}
    lab = Lab(**given)
    async with lab.visitor.request() as session:
        await session.login("ada")
        session.set_absolute_timeout(timedelta(seconds=absolute))
        assert (session.expires_at - session.created_at).total_seconds() == 300
    end = lab.clock() + absolute
    while lab.clock() + 250 < end - E:
        lab.clock.advance(250)
        async with lab.visitor.request() as session:
            assert session.owner == "ada"
    listed = (await lab.store.sessions_of("ada"))[0]
    opened = await lab.store.get_by_id(lab.visitor.sid or "")
    assert listed.expires_at.timestamp() == pytest.approx(min(end, lab.clock() + 300), abs=E)
    assert opened.expires_at == listed.expires_at
    lab.clock.advance(end - E - lab.clock())
    async with lab.store.open(lab.visitor.sid or "") as session:
        session["last"] = True
        assert session.expires_at.timestamp() == pytest.approx(end, abs=0.001)
    lab.clock.advance(E)
    assert await lab.found() is None
    assert await lab.store.sessions_of("ada") == []
    async with lab.visitor.request() as session:
        assert session.fresh


async def test_an_own_absolute_timeout_counts_from_the_last_login() -> None:
    lab = Lab(idle_timeout=timedelta(hours=2))
    await lab.begin()
    lab.clock.advance(HOUR)
    await ask(lab, lambda session: session.set_absolute_timeout(timedelta(hours=3)))
    assert max_age(lab.visitor.headers) == 7200
    lab.clock.advance(HOUR)
    assert (await lab.kept()).expires_at.timestamp() == lab.clock() + HOUR
    async with lab.visitor.request() as session:
        session.set_absolute_timeout(timedelta(hours=1))
        await session.login("ada")
        assert session.expires_at.timestamp() == lab.clock() + HOUR
    assert max_age(lab.visitor.headers) == 3600


@pytest.mark.parametrize("absolute", [timedelta(minutes=20), None])
async def test_a_session_that_is_older_than_its_new_absolute_timeout_ends(absolute: timedelta | None) -> None:
    lab = Lab(idle_timeout=timedelta(minutes=30), absolute_timeout=timedelta(hours=1))
    await lab.begin()
    await ask(lab, lambda session: session.set_absolute_timeout(timedelta(hours=8)))
    for _ in range(5):
        lab.clock.advance(29 * MINUTE)
        await ask(lab)
    lab.forget()
    sid = lab.visitor.sid
    await ask(lab, lambda session: session.set_absolute_timeout(absolute))
    assert max_age(lab.visitor.headers) == 0
    assert lab.kinds() == ["expired"]
    assert await lab.found() is None
    lab.clock.advance(2 * E)
    assert not await lab.beside(**ENDLESS).delete(sid or "")  # no other configuration brings it back


# -- the cookie

SET: list[tuple[dict[str, Any], Own, float | None, bool]] = [
    # configured, own, Max-Age, and whether the cookie is sent again when the idle clock is renewed
    ({}, Own(absolute=30 * DAY), 30 * DAY, False),
    ({}, Own(absolute=HOUR), HOUR, False),
    ({}, Own(absolute=500 * DAY), 400 * DAY, False),
    ({}, Own(persistent=False), None, False),
    ({}, Own(absolute=HOUR, persistent=False), None, False),
    (SESSION_ONLY, Own(persistent=True), DAY, False),
    (SESSION_ONLY, Own(absolute=HOUR), None, False),
    (SESSION_ONLY, REMEMBERED, 30 * DAY, False),
    (ENDLESS, Own(absolute=HOUR), HOUR, False),
    (ENDLESS, Own(persistent=False), None, False),
    (ENDLESS | SESSION_ONLY, Own(persistent=True), 1800, True),
    (ENDLESS | SESSION_ONLY, Own(idle=HOUR, persistent=True), 3600, True),
    (ENDLESS | SESSION_ONLY, Own(absolute=HOUR), None, False),
]


@pytest.mark.parametrize(("config", "own", "seconds", "follows_idle"), SET)
async def test_the_cookie_follows_the_settings_with_the_same_id_and_goes_back_with_them(
    config: dict[str, Any], own: Own, seconds: float | None, follows_idle: bool
) -> None:
    lab = Lab(**config)
    await lab.begin(n=["a list is compared at the commit"])
    sid, first = lab.visitor.sid, max_age(lab.visitor.headers)
    lines = await ask(lab, lambda session: remember(session, own))
    assert (len(lines), max_age(lab.visitor.headers), lab.visitor.sid) == (1, seconds, sid)
    assert lab.calls == ["load", "replace"]
    assert await settings(lab) == own
    assert await ask(lab) == []
    for work in (None, write):
        lab.clock.advance(200)
        assert bool(await ask(lab, work)) is follows_idle
        assert not follows_idle or max_age(lab.visitor.headers) == seconds
    lab.clock.advance(-400)
    assert len(await ask(lab, forget)) == 1
    assert (max_age(lab.visitor.headers), lab.visitor.sid) == (first, sid)
    lab.clock.advance(200)
    assert bool(await ask(lab)) is (config == ENDLESS)


async def test_without_a_deadline_the_cookie_follows_the_idle_clock() -> None:
    lab = Lab(**ENDLESS)
    await lab.begin()
    assert max_age(lab.visitor.headers) == 1800
    assert await ask(lab) == []
    uses: list[Callable[[Session], object]] = [lambda _: None, write, Session.release]
    for use in uses:
        lab.clock.advance(61)
        async with lab.visitor.request() as session:
            use(session)
        assert max_age(lab.visitor.headers) == 1800
        assert lab.visitor.headers[0][1].startswith(f"__Host-session_id={lab.visitor.sid};")
    await ask(lab, lambda session: session.set_idle_timeout(timedelta(days=7)))
    assert max_age(lab.visitor.headers) == 7 * DAY
    lab.clock.advance(6 * DAY)
    await ask(lab, lambda session: session.set_idle_timeout(None))
    assert max_age(lab.visitor.headers) == 1800


async def test_without_a_deadline_a_touch_interval_of_zero_sends_the_cookie_each_time_and_the_header_once() -> None:
    places = chain(from_cookie("__Host-session_id"), from_header("X-Session"))
    lab = Lab(absolute_timeout=None, touch_interval=timedelta(), extractor=places)
    await lab.begin()
    assert [name for name, _ in lab.visitor.headers] == ["set-cookie", "x-session"]
    async with lab.visitor.request():
        pass
    assert [name for name, _ in lab.visitor.headers] == ["set-cookie"]
    assert max_age(lab.visitor.headers) == 1800


@pytest.mark.parametrize("late", [False, True])
async def test_no_cookie_goes_to_a_client_that_has_none_or_after_the_start_of_the_response(late: bool) -> None:
    lab = Lab(extractor=chain(from_cookie("__Host-session_id"), from_header("X-Sid")))
    sid = (await lab.begin()).sid or ""
    view = PlainView([f"__Host-session_id={sid}".encode()]) if late else PlainView(headers=[("X-Sid", sid)])
    exchange = lab.store.exchange(view)
    await exchange.load()
    if late:
        assert await exchange.commit(200) == []
    remember(exchange.session)
    assert await lab.visitor.leave(exchange) == []
    assert await settings(lab) == REMEMBERED


# -- login, reset and the others


bind = doing(lambda session: session.bind_owner("bob"))


async def login_of_another(session: Session) -> None:
    await session.login("bob")


@pytest.mark.parametrize("when", ["earlier", "before", "saved before", "after"])
@pytest.mark.parametrize("verb", [login, login_of_another, regenerate, bind, reset, destroy])
async def test_each_verb_keeps_or_resets_the_settings(verb: Callable[[Session], Any], when: str, lab: Lab) -> None:
    async with lab.visitor.request() as session:
        await session.login("ada")
        if when == "earlier":
            remember(session)
    async with lab.visitor.request() as session:
        if "before" in when:
            remember(session)
        if when == "saved before":
            await session.save()
        await verb(session)
        session["n"] = 1
        if when == "after":
            remember(session)
        kept = when != "earlier" and not (verb is destroy and when != "after")
        kept = kept or verb in {regenerate, bind}
        assert session.idle_timeout.total_seconds() == (14 * DAY if kept else 1800)
    assert await settings(lab) == (REMEMBERED if kept else CONFIGURED)


async def test_a_login_keeps_each_setting_of_its_request_and_no_other(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        remember(session)
        session["n"] = 1
    async with lab.visitor.request() as session:
        session.set_persistent(False)
        await session.login("ada")
        session.set_idle_timeout(timedelta(hours=1))
    assert await settings(lab) == Own(HOUR, None, persistent=False)


# -- the event

CAPPED: list[tuple[dict[str, Any], Own, str | None]] = [
    # configured, own, and how the absolute deadline cuts the idle timeout; None: not at all
    ({}, Own(idle=2 * DAY), "2 days, 0:00:00 to 1 day, 0:00:00"),
    ({}, Own(idle=DAY), None),
    ({}, Own(absolute=600), "0:30:00 to 0:10:00"),
    ({}, Own(idle=30 * DAY, absolute=30 * DAY), None),
    ({}, Own(idle=3600.1, absolute=3600.1), None),  # of floats, a + b - a may be less than b
    ({}, Own(idle=31 * DAY, absolute=30 * DAY), "31 days, 0:00:00 to 30 days, 0:00:00"),
    (ENDLESS, Own(idle=365 * DAY), None),
    ({}, Own(persistent=True), None),
]


@pytest.mark.parametrize(("config", "own", "cut"), CAPPED)
async def test_an_idle_timeout_that_is_cut_is_reported_once(config: dict[str, Any], own: Own, cut: str | None) -> None:
    lab = Lab(**config)
    for setters in ("idle absolute persistent", "persistent absolute idle"):
        lab.forget()
        async with lab.visitor.request() as session:
            await session.login("ada")
            for name in setters.split():
                remember(session, Own(**{name: getattr(own, name)}))
        handle = (await lab.kept()).handle
        told = [(event.handle, event.owner, event.detail) for event in lab.sent(EventKind.CAPPED)]
        assert told == [(handle, "ada", f"the absolute deadline cuts the idle timeout of {cut}")] * (cut is not None)
    lab.forget()
    await ask(lab, write)
    async with lab.visitor.request() as session:
        session.set_persistent(False)  # no timeout
    assert lab.kinds("renewed") == []


# -- what else may happen to a write


async def test_parallel_requests_change_one_setting_each(lab: Lab) -> None:
    await lab.begin()
    requests = [await lab.visitor.arrive() for _ in range(4)]
    requests[0].session.set_idle_timeout(timedelta(hours=1))
    requests[1].session.set_absolute_timeout(timedelta(hours=9))
    requests[2].session.set_persistent(False)
    for exchange in requests:
        exchange.session["n"] = 2
        await lab.visitor.leave(exchange)
    assert await settings(lab) == Own(HOUR, 9 * HOUR, persistent=False)


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_write_that_was_lost_is_found_and_its_cookie_is_sent(place: str, lab: Lab) -> None:
    exchange = await lab.begin_request()
    remember(exchange.session)
    getattr(lab.storage, place)["replace"] = lose
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    assert exchange.session.idle_timeout == timedelta(days=14)
    exchange.session.set_idle_timeout(timedelta(days=9))
    await lab.visitor.leave(exchange)
    assert (max_age(lab.visitor.headers), await settings(lab)) == (30 * DAY, REMEMBERED._replace(idle=9 * DAY))


@pytest.mark.parametrize("when", ["before the login", "during it"])
async def test_a_login_over_the_limit_leaves_the_settings_as_they_were(when: str) -> None:
    lab = Lab(max_sessions_per_owner=1, on_owner_limit="refuse")
    older = lab.beside(clock=lambda: lab.clock() - 5)
    await lab.begin()
    await ask(lab, remember)
    elsewhere = partial(older.create, {}, owner="bob")
    if when == "before the login":
        await elsewhere()
    else:
        lab.storage.before["move"] = elsewhere
    with pytest.raises(OwnerLimitReached):
        async with lab.visitor.request() as session:
            await session.login("bob")
            session.set_absolute_timeout(timedelta(hours=1))
    assert max_age(lab.visitor.headers) == (None if when == "before the login" else 30 * DAY)
    assert await settings(lab) == REMEMBERED


async def test_another_process_with_other_settings_keeps_them(lab: Lab) -> None:
    await lab.begin()
    await ask(lab, remember)
    other = Visitor(lab.beside(**SESSION_ONLY, **ENDLESS), sid=lab.visitor.sid)
    lab.clock.advance(13 * DAY)
    async with other.request() as session:
        session["n"] = 2
        assert session.idle_timeout == timedelta(days=14)
    assert (other.headers, await settings(lab)) == ([], REMEMBERED)
