"""Which response an error of sessioncore becomes, how `on_error` may change it, and what is logged."""

import gc
import logging
from typing import Any

import pytest
from tests.kit import Lab, serve
from tests.views import PlainView, response_to

from sessioncore import (
    OwnerLimitReached,
    RequestView,
    ResponseStarted,
    Session,
    SessionError,
    SessionNotLoaded,
    SessionTooLarge,
    StorageError,
    StorageUnavailable,
)
from sessioncore.integration import says_ended
from sessioncore.persistence._call_timer import is_timeout

pytestmark = pytest.mark.anyio


@pytest.mark.proves("AT-100", "ASVS 16.5.1")
async def test_an_outage_is_503_too_many_sessions_409_the_rest_500(caplog: pytest.LogCaptureFixture, lab: Lab) -> None:
    for error, status in [
        (StorageUnavailable("secret"), 503), (OwnerLimitReached("secret"), 409), (StorageError("secret"), 500),
        (SessionTooLarge("secret"), 500), (SessionNotLoaded("secret"), 500),
    ]:  # fmt: skip
        caplog.clear()
        exchange = await lab.visitor.arrive()
        answer = response_to(exchange, error)
        assert answer.status == status
        assert (answer.handled, response_to(exchange, RuntimeError("of a finally")).handled) == (True, False)
        assert b"secret" not in answer.body
        assert dict(answer.headers) == {
            "content-type": "text/plain; charset=utf-8",
            "content-length": str(len(answer.body)),
            "cache-control": "no-store",
            **({"retry-after": "1"} if status == 503 else {}),
        }
        await exchange.finish(failed=True)
        logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert logged == ([] if status == 409 else [f"a request failed with status {status}: secret"])


@pytest.mark.parametrize(
    ("given", "status", "body"),
    [
        (None, 503, b"Service Unavailable"), ((418, "tea: ä"), 418, "tea: ä".encode()),
        ((599, b"raw"), 599, b"raw"), ((204, ""), 204, b""),
    ],
)  # fmt: skip
async def test_on_error_may_choose_the_response(given: Any, status: int, body: bytes) -> None:
    asked: list[tuple[RequestView, SessionError]] = []

    def on_error(view: RequestView, error: SessionError) -> Any:
        asked.append((view, error))
        return given

    store, error = Lab(on_error=on_error).store, StorageUnavailable("down")
    exchange = store.exchange(PlainView(path="/over"))
    await exchange.finish()
    assert response_to(exchange, error).status == 503  # after the request there is nothing to show to `on_error`
    exchange = store.exchange(view := PlainView(path="/buy"))
    await exchange.load()
    answer = response_to(exchange, error)
    assert (answer.status, answer.body) == (status, body)
    assert (("content-length", str(len(body))) in answer.headers) == (status != 204)
    assert asked == [(view, error)]


HEADERS = [{"Set-Cookie": "a=b"}, {"a b": "x"}, {"x": "a\r\nb: c"}, {"x": "é"}, {"x": 5}, 7, [("x", "y")]]


@pytest.mark.parametrize(
    "given",
    [ZeroDivisionError(), 503, (503,), (503, None), (503, 5.5), ("503", "x"), (99, "x"), (600, "x"), (204, "x")]
    + [(418, "x", headers) for headers in HEADERS],
)
async def test_a_mistake_in_on_error_costs_no_client_its_response(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    def on_error(_view: RequestView, _error: SessionError) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    answer = response_to(await Lab(on_error=on_error).visitor.arrive(), StorageUnavailable("down"))
    assert (answer.status, answer.body) == (503, b"Service Unavailable")
    assert "on_error must return None or (status, body" in caplog.text


async def test_an_error_of_ours_behind_a_500_is_answered_as_ours_and_one_that_was_caught_is_not(lab: Lab) -> None:
    await lab.begin()
    lab.storage.fail("load")
    for status in (500, 200):
        exchange = await lab.visitor.arrive()
        with pytest.raises(StorageUnavailable):
            exchange.session.get("n")
        if status == 200:
            assert await exchange.commit(status) == []
        else:
            with pytest.raises(StorageUnavailable) as caught:
                await exchange.commit(status)
            assert response_to(exchange, caught.value).status == 503
        await exchange.finish()


@pytest.mark.parametrize("how", ["skipped", "not loaded"])
async def test_a_500_of_an_application_that_caught_another_error_of_ours_stands(how: str) -> None:
    def skip(_: RequestView) -> bool:
        return True

    exchange = Lab(skip=skip).store.exchange(PlainView())
    if how == "skipped":
        await exchange.load()
    with pytest.raises(SessionNotLoaded) as caught:
        exchange.session.get("n")
    assert await exchange.commit(500) == []
    assert exchange.error_response(RuntimeError("its own")) is None
    assert response_to(exchange, caught.value).status == 500  # this one is the session's, and was not caught
    await exchange.finish()


async def test_an_error_of_the_application_is_its_own_after_a_logout_and_once_the_client_has_a_new_id(lab: Lab) -> None:
    begun = await lab.visitor.arrive()
    begun.session["n"] = 1
    await begun.commit(200)
    ended = await lab.begin_request()
    await ended.session.destroy()
    for exchange in (begun, ended):
        assert exchange.error_response(RuntimeError("its own")) is None


@pytest.mark.parametrize("loaded", [True, False])
async def test_changes_after_an_error_response_are_dropped_also_if_it_precedes_the_load(loaded: bool, lab: Lab) -> None:
    sid = (await lab.begin()).sid
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={sid}".encode()]))
    if loaded:
        await exchange.load()
    response_to(exchange, StorageUnavailable("down"))
    await exchange.load()
    exchange.session["n"] = 2
    with pytest.raises(ResponseStarted):
        await exchange.session.login("ada")
    await exchange.finish()
    assert await lab.data() == {"n": 1}


@pytest.mark.parametrize("second", [StorageUnavailable("down, too"), ValueError("its own")])
async def test_a_group_of_refusals_is_answered_like_one(second: Exception) -> None:
    exchange = await Lab().visitor.arrive()
    group = ExceptionGroup("of a TaskGroup", [StorageUnavailable("down"), ExceptionGroup("of another", [second])])
    if isinstance(second, ValueError):
        assert exchange.error_response(group) is None
    else:
        answer = response_to(exchange, group)
        assert (answer.status, answer.handled) == (503, True)
    await exchange.finish(failed=True)


async def test_errors_that_were_raised_from_each_other_are_looked_at_once() -> None:
    exchange, first, second = await Lab().visitor.arrive(), KeyError("its own"), ValueError("raised from it")
    second.__cause__ = first
    for cause in (second, ExceptionGroup("of a TaskGroup", [first])):
        first.__cause__ = cause
        assert exchange.error_response(first) is None
        assert not says_ended(first, lambda _: False)
        assert not is_timeout(first)
    await exchange.finish(failed=True)


async def test_errors_leave_nothing_that_the_garbage_collector_cannot_take(caplog: pytest.LogCaptureFixture) -> None:
    # An error refers to the frames that it went through, and these to the session: cycles that only the collector
    # frees. It cannot free one that leads through a Struct with gc=False, which it does not track.
    caplog.set_level(logging.CRITICAL, "sessioncore")  # pytest keeps what is logged, and with it the tracebacks
    lab = Lab()

    async def fail() -> None:
        try:
            raise OSError("the disk is full")
        except OSError as exc:
            raise StorageUnavailable("written by halves") from exc

    async def use(session: Session) -> None:
        session.mutate("n", lambda value: value + len(session), default=0)  # the change refers to the session
        lab.storage.before["create"] = fail
        with pytest.raises(StorageUnavailable):
            await session.save()

    async def use_and_fail(session: Session) -> None:
        await use(session)
        raise ValueError("of the application")

    with pytest.raises(ValueError, match="of the application"):
        await serve(lab.store, PlainView(), use_and_fail)
    await use(await lab.store.get(PlainView()))  # this one is never released
    gc.collect()
    sessions = [thing for thing in gc.get_objects() if type(thing) is Session]
    assert [session for session in sessions if session.store is lab.store] == []


async def test_on_error_may_add_headers_but_not_those_that_protect_the_session() -> None:
    given = {"Content-Type": "text/html", "Retry-After": "30", "Cache-Control": "public", "Content-Length": "7"}

    def on_error(_view: RequestView, _error: SessionError) -> Any:
        return 503, "<p>", given

    answer = response_to(await Lab(on_error=on_error).visitor.arrive(), StorageUnavailable("down"))
    assert (answer.status, answer.body) == (503, b"<p>")
    assert sorted(answer.headers) == [
        ("cache-control", "no-store"), ("content-length", "3"), ("content-type", "text/html"), ("retry-after", "30")
    ]  # fmt: skip
