"""What a session says about itself, where it must not be used, and that nothing shows its ID."""

import copy
import enum
import json
import pickle
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.kit import Lab
from tests.views import PlainView, as_shown

from sessioncore import ConfigError, Session, SessionError, SessionNotLoaded, StorageUnavailable, UnregisteredType

pytestmark = pytest.mark.anyio


@pytest.mark.proves("AT-87")
async def test_a_session_counts_as_accessed_by_every_use_but_the_question_itself() -> None:
    uses: list[Callable[[Session], object]] = [
        Session.mark_accessed, Session.keys, Session.values, Session.items, len, list, bool, lambda s: s.get("n"),
        lambda s: "n" in s, lambda s: s.id, lambda s: s.owner, lambda s: s.fresh, lambda s: s.handle,
    ]  # fmt: skip
    for use in uses:
        async with Lab().visitor.request() as session:
            assert not session.accessed
            repr(session)
            assert not session.accessed
            use(session)
            assert session.accessed


@pytest.mark.proves("P6", "AT-38", "AT-138")
async def test_repr_shows_the_handle_and_never_the_id_or_a_value(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        assert repr(session) == "<Session: not used yet>"
        session["n"] = "canary"
    async with lab.visitor.request() as session:
        handle = session.handle
        assert repr(session) == f"<Session handle={handle} fresh=False keys=1>"
        ids, shown = [session.id], list[str]()

        async def look() -> None:
            """Look at objects as tools do that log the variables of a traceback."""
            inside: Any = [session._state, session._persistence]  # pyright: ignore[reportPrivateUsage]
            state = inside[0]
            if (attempt := state.in_flight) is not None:
                inside += [attempt, attempt.call, attempt.record, attempt.delta, attempt.pending]
            inside += [state.loaded, state.loaded.record]
            shown.extend(as_shown(one) for one in inside)

        await look()
        session["secret"] = "canary"
        await session.login("canary", device="canary")
        lab.storage.before["move"] = look
        await session.save()
        assert not any(text in part for part in shown for text in (*ids, session.id, "canary"))
        handle = session.handle
        await session.destroy()
        assert repr(session) == "<Session handle=None fresh=True keys=0>"


async def test_an_id_that_was_shown_is_the_same_after_the_request(lab: Lab) -> None:
    for stored in (False, True):
        async with lab.visitor.request() as session:
            session.update({"n": 1} if stored else {})
            shown = session.id
        assert session.id == shown


@pytest.mark.proves("AT-38", "AT-138")
async def test_a_session_is_not_copied_pickled_hashed_or_made_json() -> None:
    session = await Lab().store.create({"n": 1})
    copies: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]
    for copying in copies:
        with pytest.raises(TypeError, match=r"dict\(session\)"):
            copying(session)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"dict\(session\)"):
            pickle.dumps(session, protocol)
    others: list[Callable[[Any], Any]] = [json.dumps, msgspec.json.encode, hash]
    for other in others:
        with pytest.raises(TypeError):
            other(session)
    assert json.dumps(dict(session)) == '{"n": 1}'


USES: list[Callable[[Session], object]] = [
    lambda session: session["n"], lambda session: session.get("n"), lambda session: session.set("n", 1),
    lambda session: session.delete("n"), lambda session: session.__delitem__("n"),
    lambda session: session.mutate("n", lambda n: n, 1), lambda session: "n" in session, bool,
    lambda session: session.id, lambda session: session.handle, lambda session: session.fresh,
    lambda session: session.empty, lambda session: session.owner,
    lambda session: session.details, lambda session: session.created_at, lambda session: session.expires_at,
    lambda session: session.idle_timeout, lambda session: session.set_idle_timeout(None),
    lambda session: session.bind_owner("ada"), Session.mark_accessed,
]  # fmt: skip
VERBS: list[Callable[[Session], Awaitable[object]]] = [
    Session.save, Session.regenerate, Session.reset, Session.destroy, lambda session: session.login("ada")
]  # fmt: skip


async def test_a_session_that_is_not_loaded_says_how_to_load_it() -> None:
    session = Lab().store.exchange(PlainView()).session
    for use in USES:
        with pytest.raises(SessionNotLoaded, match="await get_session"):
            use(session)
    for verb in VERBS:
        with pytest.raises(SessionNotLoaded):
            await verb(session)
    assert not session.accessed
    assert repr(session) == "<Session: not used yet>"


async def test_a_session_that_was_not_loaded_or_was_skipped_raises_at_each_use_also_after_its_request() -> None:
    def skip(view: Any) -> bool:
        return bool(view.path == "/health")

    lab = Lab(skip=skip)
    await lab.begin()
    cookies = [f"__Host-session_id={lab.visitor.sid}".encode()]
    lab.storage.fail("load")
    for view, error in ((PlainView(cookies), StorageUnavailable), (PlainView(path="/health"), SessionNotLoaded)):
        exchange = lab.store.exchange(view)
        await exchange.load()
        for over in (False, True):
            for use in USES:
                if use is not Session.mark_accessed:
                    with pytest.raises(error):
                        use(exchange.session)
            for verb in VERBS:
                with pytest.raises(error):
                    await verb(exchange.session)
            if not over:
                assert await exchange.commit(200) == []  # a route that did not need it answers as usual
                await exchange.finish()
                exchange.session.release()
    lab.storage.restore()
    assert await lab.data() == {"n": 1}
    with pytest.raises(SessionNotLoaded, match="skip"):
        await lab.store.get(PlainView(path="/health"))


@pytest.mark.proves("P6", "AT-38", "AT-138")
@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("operation", ["load", "create", "replace", "move", "owned_keys", "delete"])
async def test_a_failing_storage_leaves_no_id_in_variables_of_the_traceback(operation: str, limit: int | None) -> None:
    """Error trackers and `pytest -l` show these, frame by frame."""
    lab = Lab(max_sessions_per_owner=limit)
    await lab.begin()
    fresh, live = await lab.store.get(PlainView()), (await lab.visitor.arrive()).session
    known = {lab.visitor.sid or "", fresh.id, live.id}
    lab.storage.fail(operation)
    unloaded = (await lab.visitor.arrive()).session
    shown: list[str] = []
    for session, use in ((fresh, "save"), (live, "save"), (live, "login"), (live, "destroy"), (unloaded, "save")):
        try:
            session["n"] = 2
            if use == "login":
                await session.login("ada")
                known.add(session.id)
            await (session.destroy() if use == "destroy" else session.save())
        except SessionError as exc:
            error: BaseException | None = exc
            while error is not None:
                frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
                ours = [frame for frame in frames if "/src/" in frame.f_code.co_filename]
                shown += [as_shown(value) for frame in ours for value in frame.f_locals.values()]
                error = error.__cause__
    assert shown or (operation == "owned_keys" and limit is None)
    assert not [text for text in shown if any(sid in text for sid in known)]


# -- owner, details and idle timeout


class Name(enum.StrEnum):
    ADA = "ada"


@pytest.mark.proves("AT-25")
async def test_bind_owner_keeps_the_id_and_its_details_keep_their_types(lab: Lab) -> None:
    details = {"at": datetime(2020, 1, 1, tzinfo=UTC), "where": (48.1, 11.6), "seen": [1]}
    before = (await lab.begin()).sid
    async with lab.visitor.request() as session:
        session.bind_owner("ada", **details)
        assert (session.owner, session.details) == ("ada", details)
        session.details["seen"].append(2)  # changes a copy
    lab.clock.advance(30)  # not long enough for a renewal
    async with lab.visitor.request() as session:
        assert (session.id, session.owner, session.details) == (before, "ada", details)
        [info] = await lab.store.sessions_of("ada")
        assert (info.handle, info.details, type(info.details["where"])) == (session.handle, details, tuple)
        session.bind_owner("ada", **details)  # as it is, so nothing is written
        assert (info.created_at, info.expires_at) == (session.created_at, session.expires_at)
    assert lab.calls.count("replace") == 1
    async with lab.visitor.request() as session:
        session.bind_owner("bob")
        assert (session.owner, session.details) == ("bob", {})
    assert await lab.store.sessions_of("ada") == []
    assert [info.details for info in await lab.store.sessions_of("bob")] == [{}]


async def test_owners_details_and_lifetimes_that_could_not_be_kept_are_refused() -> None:
    async with Lab().visitor.request() as session:
        owners: list[Any] = ["", 5, None, b"ada", "a\0b", "\ud800", "o" * 1025, Name.ADA]
        for owner in owners:
            with pytest.raises(ConfigError, match="1 to 1024"):
                session.bind_owner(owner)
            with pytest.raises(ConfigError, match="1 to 1024"):
                await session.login(owner)
        with pytest.raises(UnregisteredType, match="details"):
            session.bind_owner("ada", socket=object())
        with pytest.raises(UnregisteredType, match="details"):
            await session.login("ada", socket=object())
        timeouts: list[Any] = [timedelta(), timedelta(seconds=-1), timedelta(days=36501), timedelta.max, 60, "1h", True]
        settings: list[tuple[Any, str, list[Any]]] = [
            (session.set_idle_timeout, "a timedelta above zero", timeouts),
            (session.set_absolute_timeout, "a timedelta above zero", timeouts),
            (session.set_persistent, "True, False, or None", [1, 0, "yes", timedelta(1)]),
        ]
        for setter, takes, values in settings:
            for value in values:
                with pytest.raises(ConfigError, match=rf"{setter.__name__}\(\) takes {takes}"):
                    setter(value)
        assert session.owner is None
        assert session.expires_at - session.created_at == timedelta(minutes=30)
        assert not session.modified


async def test_asking_whether_a_session_was_modified_does_not_count_as_use(lab: Lab) -> None:
    sid = (await lab.store.create({"cart": ["tea"]})).id
    for cookie in (None, sid):
        exchange = await lab.visitor.arrive(cookie)
        assert not exchange.session.modified
        assert not exchange.session.accessed
        assert exchange.revise([], await exchange.commit(200)) == []
        await exchange.finish()
    exchange = lab.store.exchange(PlainView())
    assert exchange.session.modified is False, "also before it is loaded"
