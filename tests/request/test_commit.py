"""What a request stores and when: at the commit, after an error, after the response has started, or never."""

import asyncio
from contextlib import nullcontext
from datetime import timedelta
from functools import partial

import anyio
import pytest
from tests.kit import Lab, Work, login, lose, regenerate, reset
from tests.turns import comes_true
from tests.views import PlainView, Visitor, response_to

from sessioncore import (
    Exchange,
    LifecycleError,
    ResponseStarted,
    Session,
    SessionError,
    SessionKey,
    SessionReleased,
    StorageUnavailable,
)
from sessioncore.integration import watch_connection

pytestmark = pytest.mark.anyio
KEYS = SessionKey("keys", list[object], default_factory=list)


@pytest.mark.proves("P5", "AT-1", "AT-88", "ASVS 7.6.2")
async def test_requests_that_store_nothing_make_no_storage_call(lab: Lab) -> None:
    exchange = await lab.visitor.arrive()
    assert await lab.visitor.leave(exchange) == []  # untouched
    exchange.session.release()  # once more, after its request
    async with lab.visitor.request() as session:
        assert session.get("n") is None
        assert session.id
    assert lab.visitor.headers == []
    async with lab.visitor.request() as session:
        session["n"] = 1
        del session["n"]
        session.set_idle_timeout(timedelta(hours=1))
    assert lab.visitor.headers == []
    assert lab.calls == []


async def test_a_session_that_is_loaded_during_or_after_the_response_cannot_begin(lab: Lab) -> None:
    exchange = lab.store.exchange(PlainView())
    await exchange.commit(200)
    await exchange.load()
    with pytest.raises(ResponseStarted):
        exchange.session["n"] = 1
    await exchange.finish()
    exchange = lab.store.exchange(PlainView())
    await exchange.finish()
    await exchange.load()
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 1


async def test_a_session_whose_last_key_was_deleted_is_kept_empty(lab: Lab) -> None:
    await lab.begin()
    async with lab.visitor.request() as session:
        del session["n"]
    async with lab.visitor.request() as session:
        assert (session.fresh, session.empty) == (False, True)


async def test_the_commit_of_a_response_is_made_once(lab: Lab) -> None:
    exchange = await lab.visitor.arrive()
    exchange.session["n"] = 1
    assert len(await exchange.commit(200)) == 1
    assert await exchange.commit(200) == []
    assert await exchange.commit(None) == []
    await exchange.finish()
    await exchange.finish()
    assert lab.calls == ["create"]


# -- errors


@pytest.mark.proves("AT-33", "AT-99")
@pytest.mark.parametrize("saves", [False, True])
async def test_a_server_error_drops_changes_and_rotation_unless_they_are_to_be_saved(saves: bool) -> None:
    lab = Lab(save_on_server_error=saves)
    before = (await lab.begin()).sid
    async with lab.visitor.request(500) as session:
        session["n"] = 2
    assert await lab.data() == {"n": 2 if saves else 1}
    async with lab.visitor.request(503) as session:
        await session.login("ada")
    assert (lab.visitor.sid == before) is not saves
    assert len(await lab.store.sessions_of("ada")) == saves
    stranger = Visitor(lab.store)
    async with stranger.request(500) as session:
        session["n"] = 1
    assert (stranger.sid is not None) is saves


@pytest.mark.proves("AT-99")
@pytest.mark.parametrize("saves", [False, True])
async def test_what_the_stream_of_a_server_error_changes_is_dropped_too_unless_it_is_saved(saves: bool) -> None:
    lab = Lab(save_on_server_error=saves)
    exchange = await lab.begin_request()
    await exchange.commit(500)
    exchange.session["n"] = 2
    await exchange.save_late()
    assert await lab.data() == {"n": 2 if saves else 1}
    exchange.session["n"] = 3  # as a background task does
    await exchange.finish()
    assert (await lab.data(), exchange.session["n"]) == (({"n": 3}, 3) if saves else ({"n": 1}, 1))
    exchange = await lab.visitor.arrive()
    await exchange.commit(503)
    exchange.session["n"] = 4
    await exchange.session.save()
    exchange.session["n"] = 5
    await exchange.finish()
    assert await lab.data() == {"n": 5 if saves else 4}


async def test_a_new_id_that_another_task_requests_during_the_commit_of_a_server_error_is_not_stored(lab: Lab) -> None:
    await lab.begin()
    lab.clock.advance(600)
    exchange = await lab.visitor.arrive()
    lab.storage.before["touch"] = lambda: regenerate(exchange.session)
    assert await exchange.commit(500) == []
    await exchange.finish()
    assert lab.calls == ["load", "touch"]


FAILED_RESPONSES: dict[str, tuple[int | None, object]] = {  # the status, and the other value of the session
    "no reply": (200, 1), "it cannot be stored": (200, object()), "a server error": (500, 1), "no headers": (None, 1),
    "an error of ours": (200, 1),
}  # fmt: skip


@pytest.mark.proves("P3")
@pytest.mark.parametrize("written", ["set", "in place", "default"])
@pytest.mark.parametrize("how", FAILED_RESPONSES)
async def test_a_save_after_changes_were_dropped_with_a_response_is_an_error(how: str, written: str, lab: Lab) -> None:
    """For example the save of another task, which has made its change before."""
    exchange = await lab.begin_request(a=[1])
    session, (status, value) = exchange.session, FAILED_RESPONSES[how]
    if written == "set":
        session["n"] = value
    else:
        (session["a"] if written == "in place" else session[KEYS]).append(value)
    if how == "no headers":
        await session.regenerate()
    elif how == "no reply":
        lab.storage.before["replace"] = lose
    if how == "an error of ours":
        response_to(exchange, StorageUnavailable("later"))
    else:
        with nullcontext() if status != 200 else pytest.raises(SessionError):
            await exchange.commit(status)
    for _ in range(2):
        with pytest.raises(LifecycleError, match="new request"):
            await session.save()
        session["later"] = 1
    await session.reload()
    await exchange.finish()
    assert await lab.data() == {"a": [1]} | ({"later": 1} if how == "no headers" else {})
    with pytest.raises(SessionReleased):
        await session.save()


@pytest.mark.proves("P2")
@pytest.mark.parametrize("status", [200, 500])
async def test_a_connection_whose_session_has_another_owner_now_stores_nothing_more(status: int) -> None:
    lab, ended = Lab(save_on_server_error=True, watch_interval=timedelta(seconds=0.07)), anyio.Event()
    exchange = await lab.begin_request()
    exchange.session.mark_accessed()
    watch = watch_connection(exchange, lambda _: ended.set())
    async with lab.store.open(lab.visitor.sid or "") as other:
        other.bind_owner("bob")
    with anyio.fail_after(5):
        await ended.wait()
    await exchange.commit(status)
    exchange.session["n"] = 2
    await exchange.finish()
    assert watch is not None
    watch.stop()
    assert await lab.data() == {"n": 1}


async def test_a_connection_that_uses_its_session_late_renews_it_and_is_watched_until_it_closes() -> None:
    lab = Lab(watch_interval=timedelta(seconds=0.07))
    exchange, before = await lab.begin_request(), asyncio.all_tasks()
    await exchange.commit(200)
    watch = watch_connection(exchange, lambda _: None)
    assert watch is not None
    exchange.session.mark_accessed()
    await comes_true(lambda: asyncio.all_tasks() != before)
    lab.clock.advance(120)
    watch.message_received()
    await comes_true(lambda: "touch" in lab.calls)
    watch.stop()
    await comes_true(lambda: asyncio.all_tasks() == before)
    await exchange.finish()


async def test_a_connection_whose_session_was_ended_before_it_was_open_ends(lab: Lab) -> None:
    exchange, ended = await lab.begin_request(), anyio.Event()
    exchange.session["n"] = 2
    await lab.beside().reset()
    await exchange.commit(200)
    assert watch_connection(exchange, lambda _: ended.set()) is not None
    with anyio.fail_after(5):
        await ended.wait()
    await exchange.finish()


@pytest.mark.parametrize("end", ["server error", "an error of ours", "an error of the application"])
async def test_after_an_error_the_client_gets_the_id_that_was_saved_and_no_later_one(end: str, lab: Lab) -> None:
    exchange = await lab.begin_request()
    assert exchange.error_response(RuntimeError()) is None  # there is no ID to send
    session = exchange.session
    await session.login("ada")
    await session.save()
    await session.regenerate()
    session["late"] = 1
    if end == "server error":
        await lab.visitor.leave(exchange, 500)
    else:
        answer = response_to(exchange, SessionReleased("now") if end == "an error of ours" else RuntimeError())
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        [told] = [value for name, value in answer.headers if name == "set-cookie"]
        lab.visitor.sid = told.partition(";")[0].partition("=")[2]
        session["later"] = 1  # after a failure nothing more is stored
        await exchange.finish(failed=end == "an error of the application")
    found = await lab.kept()
    assert (dict(found), found.owner) == ({"n": 1}, "ada")


async def test_an_error_response_clears_the_cookie_of_a_session_that_was_ended_before(lab: Lab) -> None:
    exchange = await lab.begin_request()
    await exchange.session.destroy()
    answer = response_to(exchange, StorageUnavailable("later"))
    assert dict(answer.headers)["set-cookie"].startswith("__Host-session_id=; Max-Age=0")
    await exchange.finish(failed=True)


# -- no response


@pytest.mark.parametrize("saves", [False, True])
async def test_without_a_response_nothing_is_stored_unless_errors_are_saved_and_no_header_needed(saves: bool) -> None:
    lab = Lab(save_on_server_error=saves)
    await lab.begin()
    for visitor, failed in ((lab.visitor, True), (Visitor(lab.store), True), (lab.visitor, False)):
        exchange = await visitor.arrive()
        exchange.session["n"] = 9
        await exchange.finish(failed=failed)
        assert await lab.data() == {"n": 9 if saves else 1}
        assert len(lab.storage.inner) == 1


async def test_a_response_without_headers_keeps_what_needs_none_and_drops_the_rest(lab: Lab) -> None:
    """For example a WebSocket that is refused."""
    await lab.begin()

    async def deny(visitor: Visitor, work: Work) -> None:
        exchange = await visitor.arrive()
        exchange.session["n"] = 2
        await work(exchange.session)
        lab.storage.before["replace"] = partial(rotate_in_another_task, exchange.session)
        await exchange.commit(None)
        await exchange.finish()

    async def rotate_in_another_task(session: Session) -> None:
        with pytest.raises(ResponseStarted):
            await session.regenerate()

    async def nothing(_: Session) -> None:
        pass

    for work in (login, regenerate):
        await deny(lab.visitor, work)
        assert await lab.data() == {"n": 1}
        assert await lab.store.sessions_of("ada") == []
    await deny(Visitor(lab.store), nothing)
    assert len(lab.storage.inner) == 1
    assert lab.kinds() == []
    await deny(lab.visitor, nothing)
    assert await lab.data() == {"n": 2}
    await deny(lab.visitor, reset)
    assert len(lab.storage.inner) == 0


# -- after the response has started


async def started(lab: Lab) -> Exchange:
    exchange = await lab.visitor.arrive()
    assert await exchange.commit(200) == []
    return exchange


@pytest.mark.proves("AT-52")
async def test_after_the_start_a_live_session_takes_writes_and_an_end_but_no_new_id(lab: Lab) -> None:
    await lab.begin()
    exchange = await started(lab)
    exchange.session["late"] = True
    for work in (login, regenerate, reset):
        with pytest.raises(ResponseStarted):
            await work(exchange.session)
    await exchange.finish()
    assert await lab.data() == {"n": 1, "late": True}
    exchange = await started(lab)
    await exchange.session.destroy()
    with pytest.raises(ResponseStarted):
        exchange.session["x"] = 1
    await exchange.finish()
    assert len(lab.storage.inner) == 0


@pytest.mark.proves("AT-52", "AT-97")
async def test_after_the_start_a_fresh_session_takes_no_write_but_one_that_this_response_announced_does() -> None:
    lab = Lab()
    exchange = await started(lab)
    with pytest.raises(ResponseStarted):
        exchange.session["n"] = 1
    with pytest.raises(ResponseStarted):
        exchange.session.bind_owner("ada")
    await exchange.finish()
    assert lab.calls == []
    exchange = await lab.visitor.arrive()
    exchange.session["n"] = 1
    [(_, cookie)] = await exchange.commit(200)
    exchange.session["n"] = 2
    await exchange.finish()
    assert await lab.data(cookie.partition(";")[0].partition("=")[2]) == {"n": 2}


async def test_late_changes_are_dropped_when_the_handler_fails(lab: Lab) -> None:
    await lab.begin()
    for failed in (True, False):
        exchange = await started(lab)
        exchange.session["n"] = 9
        await exchange.finish(failed=failed)
        assert await lab.data() == {"n": 1 if failed else 9}


async def test_a_late_change_that_cannot_be_stored_is_an_error_and_the_session_is_released(lab: Lab) -> None:
    await lab.begin()
    exchange = await started(lab)
    exchange.session["x"] = object()
    with pytest.raises(SessionError, match="'x'"):
        await exchange.finish()
    assert exchange.session.get("n") == 1
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 2
