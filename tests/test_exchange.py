"""One request driven by hand: where IDs are found, what is answered, and when what is stored."""

import itertools
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from msgspec import Struct
from tests.stores import AlternatingStorage, SpyStorage, SuspendingStorage
from tests.views import PlainView, obtain, response_to

from sessioncore import (
    ConfigError,
    Exchange,
    Extractor,
    OwnerLimitReached,
    RequestView,
    ResponseStarted,
    Session,
    SessionConfig,
    SessionError,
    SessionEvent,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
    SessionTooLarge,
    Source,
    StorageError,
    StorageUnavailable,
    Stored,
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_lookup,
    from_param,
    from_query,
)
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

Handler = Callable[[Session], Awaitable[None]]


STORAGES: dict[str, type[SpyStorage]] = {
    "always-waits": SuspendingStorage,
    "answers-now-and-then": AlternatingStorage,
}


@pytest.fixture(params=list(STORAGES.values()), ids=list(STORAGES))
def kind(request: pytest.FixtureRequest) -> type[SpyStorage]:
    """The storage: one that lets every call wait, or one that answers some at once."""
    chosen: type[SpyStorage] = request.param
    return chosen


class Reply(Struct):
    """What came of a request."""

    headers: list[tuple[str, str]]
    vary: str | None = None
    error: SessionError | None = None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Site:
    """A store with its events, served by the smallest of adapters."""

    def __init__(
        self, extractor: Extractor | None = None, *, kind: type[SpyStorage] = SuspendingStorage, **config: Any
    ) -> None:
        self.events: list[SessionEvent] = []
        self.clock = ManualClock()
        self.storage = kind(self.clock)
        if extractor is not None:
            config |= {"extractor": extractor}
        numbers = itertools.count(1)
        settings = {"id_generator": lambda: f"minted-{next(numbers):036}", "clock": self.clock, **config}
        self.store = SessionStore(
            SessionConfig.development(storage=self.storage, on_event=self.events.append, **settings)
        )

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    async def make(self, **data: Any) -> str:
        session = await self.store.create(data or {"n": 1})
        self.events.clear()
        self.storage.calls.clear()
        return session.id

    async def visit(self, view: PlainView, handler: Handler | None = None, status: int = 200) -> Reply:
        exchange = self.store.exchange(view)
        await exchange.load()
        try:
            if handler is not None:
                await handler(exchange.session)
            added = await exchange.commit(status)
            headers = [(name.decode(), value.decode()) for name, value in exchange.revise([], added)]
            assert exchange.session.accessed or not headers
        except SessionError as error:
            answer = response_to(exchange, error)
            return Reply(answer.headers, error=error)
        finally:
            await exchange.finish()
        return Reply(headers, next((value for name, value in headers if name == "vary"), None))


def cookie(sid: str, name: str = "session_id") -> PlainView:
    return PlainView(cookies=[f"{name}={sid}".encode()])


def sid_of(line: str) -> str:
    return line.partition("=")[2].partition(";")[0]


async def read(session: Session) -> None:
    session.get("n")


async def write(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


async def login(session: Session) -> None:
    await session.login("ada")


async def regenerate(session: Session) -> None:
    await session.regenerate()


async def reset(session: Session) -> None:
    await session.reset()


async def destroy(session: Session) -> None:
    await session.destroy()


async def save(session: Session) -> None:
    session["n"] = 5
    await session.save()


async def unstorable(session: Session) -> None:
    session["x"] = object()


async def in_place(session: Session) -> None:
    session.setdefault("items", []).append(1)


HANDLERS: list[Handler | None] = [
    None, read, write, login, regenerate, reset, destroy, save, unstorable, in_place
]  # fmt: skip
PLACES: list[Callable[[], Extractor]] = [
    from_cookie,
    lambda: from_cookie("session_id"),
    lambda: from_header("X-Sid"),
    from_auth_header,
    lambda: chain(from_cookie("session_id"), from_header("X-Sid"), from_query("sid")),
    lambda: chain(from_form("sid"), from_cookie("session_id")),
    lambda: Extractor(lambda view: view.query("sid"), Source.HEADER, "X-Own"),
]


async def _outcome(
    kind: type[SpyStorage], make: Callable[[], Extractor], handler: Handler | None, which: str, status: int
) -> Any:
    """Everything that can be seen of one request."""
    site = Site(make(), kind=kind, cookie_secure=True)
    sid = await site.make(n=1, items=[0])
    given = {"live": sid, "unknown": "u" * 43, "malformed": "x", "none": None}[which]
    view = PlainView(scheme="https")
    if given is not None:
        view.cookies = [f"{name}={given}".encode() for name in ("session_id", "__Host-session_id")]
        view.headers = [("X-Sid", given), ("Authorization", f"Bearer {given}")]
        view.queries = view.fields = {"sid": given}
    site.clock.advance(100)
    reply = await site.visit(view, handler, status)
    left: list[Any] = []
    for number in range(1, 5):
        try:
            left.append(dict(await site.store.get_by_id(f"minted-{number:036}")))
        except SessionError as error:
            left.append(type(error))
    shown = [(event.kind, event.handle, event.detail) for event in site.events]
    return reply.headers, str(reply.error), site.storage.calls, shown, left, len(site.storage.inner)


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: getattr(handler, "__name__", "untouched"))
@pytest.mark.parametrize("status", [200, 500])
async def test_it_makes_no_difference_when_a_storage_answers(handler: Handler | None, status: int) -> None:
    for make, which in itertools.product(PLACES, ["live", "unknown", "malformed", "none"]):
        waited = await _outcome(SuspendingStorage, make, handler, which, status)
        assert await _outcome(AlternatingStorage, make, handler, which, status) == waited


# -- where IDs are found, and where new ones go


async def test_a_stale_cookie_does_not_hide_a_valid_header(kind: type[SpyStorage]) -> None:
    site = Site(chain(from_cookie("session_id"), from_header("X-Sid")), kind=kind)
    sid = await site.make(n=7)
    seen: list[int] = []

    async def look(session: Session) -> None:
        seen.append(session["n"])

    for stale in ("u" * 43, "short", ""):
        view = PlainView(cookies=[f"session_id={stale}".encode()], headers=[("X-Sid", sid)])
        reply = await site.visit(view, look)
        assert reply.headers == [("vary", "Cookie, X-Sid")]
    assert seen == [7, 7, 7]
    assert site.kinds() == ["unknown", "malformed", "malformed"]


async def test_the_first_live_id_wins_and_data_is_never_merged(kind: type[SpyStorage]) -> None:
    site = Site(chain(from_cookie("session_id"), from_header("X-Sid")), kind=kind)
    first, second = await site.make(a=1), await site.make(b=2)
    seen: list[dict[str, int]] = []

    async def look(session: Session) -> None:
        seen.append(dict(session))

    await site.visit(PlainView([f"session_id={first}".encode()], [("X-Sid", second)]), look)
    await site.visit(PlainView([f"session_id={second}".encode()], [("X-Sid", first)]), look)
    assert seen == [{"a": 1}, {"b": 2}]


NESTED = chain(
    from_query("sid"),
    chain(from_cookie("session_id"), chain(from_header("X-Sid"), from_form("sid"))),
    chain(from_cookie("second")),
)
FLAT = chain(
    from_query("sid"), from_cookie("session_id"), from_header("X-Sid"), from_form("sid"), from_cookie("second")
)


@pytest.mark.parametrize("extractor", [NESTED, FLAT], ids=["nested", "flat"])
async def test_a_new_id_goes_to_every_cookie_and_header_of_a_chain_and_nowhere_else(
    extractor: Extractor, kind: type[SpyStorage]
) -> None:
    site = Site(extractor, kind=kind)
    reply = await site.visit(PlainView(), write)
    assert [name for name, _ in reply.headers if name not in {"vary", "cache-control"}] == [
        "set-cookie",
        "set-cookie",
        "x-sid",
    ]
    lines = reply.all("set-cookie")
    assert [line.partition("=")[0] for line in lines] == ["session_id", "second"]
    assert {sid_of(line) for line in lines} == {reply.all("x-sid")[0]}
    assert reply.vary == "Cookie, X-Sid"
    assert reply.all("cache-control") == ["no-store"]
    reply = await site.visit(cookie(reply.all("x-sid")[0], "second"), reset)
    assert [line.partition(";")[0] for line in reply.all("set-cookie")] == ["session_id=", "second="]
    assert reply.all("x-sid") == [""]


READ_ONLY: list[tuple[Extractor, Callable[[str], PlainView]]] = [
    (from_query("sid"), lambda sid: PlainView(queries={"sid": sid})),
    (from_form("sid"), lambda sid: PlainView(fields={"sid": sid})),
    (from_param("sid"), lambda sid: PlainView(params={"sid": sid})),
    (from_param("sid", path="/s/{sid}"), lambda sid: PlainView(path=f"/s/{sid}")),
    (from_auth_header(), lambda sid: PlainView(headers=[("Authorization", f"Bearer {sid}")])),
]


@pytest.mark.parametrize(("place", "view"), READ_ONLY)
async def test_an_id_from_a_read_only_place_is_never_promoted_but_a_minted_one_is(
    place: Extractor, view: Callable[[str], PlainView], kind: type[SpyStorage]
) -> None:
    site = Site(chain(place, from_cookie("session_id")), kind=kind)
    sid = await site.make(n=1)
    for handler in (read, write, in_place, save):
        reply = await site.visit(view(sid), handler)
        assert reply.all("set-cookie") == []
    for handler in (regenerate, login):
        reply = await site.visit(view(sid), handler)
        new = sid_of(reply.all("set-cookie")[0])
        assert new != sid
        assert (await site.store.get_by_id(new))["n"] == 5
        sid = new
    reply = await site.visit(view(sid), reset)
    assert reply.all("set-cookie") == []  # this client has no cookie to clear
    assert len(site.storage.inner) == 0


@pytest.mark.parametrize(("place", "view"), READ_ONLY)
async def test_a_read_only_place_alone_sends_nothing_ever(
    place: Extractor, view: Callable[[str], PlainView], kind: type[SpyStorage]
) -> None:
    site = Site(place, kind=kind)
    sid = await site.make()
    for handler in (read, write, login):
        reply = await site.visit(view(sid), handler)
        assert [name for name, _ in reply.headers if name != "vary"] == []
    assert site.kinds()[0] == "login"


async def test_without_a_deadline_only_cookies_that_brought_the_id_are_sent_again(
    kind: type[SpyStorage],
) -> None:
    site = Site(chain(from_cookie("session_id"), from_query("sid")), kind=kind, absolute_timeout=None)
    sid = await site.make()
    site.clock.advance(120)
    reply = await site.visit(PlainView(queries={"sid": sid}), read)
    assert reply.all("set-cookie") == []
    site.clock.advance(120)
    reply = await site.visit(cookie(sid), read)
    assert sid_of(reply.all("set-cookie")[0]) == sid


async def test_from_param_reads_a_path_where_the_adapter_runs_before_routing(kind: type[SpyStorage]) -> None:
    site = Site(from_param("id", path="/share/{id}/of/{user}"), kind=kind)
    sid = await site.make()
    seen: list[bool] = []

    async def look(session: Session) -> None:
        seen.append(session.fresh)

    for path in (f"/share/{sid}/of/ada", f"/share/{sid}/of/", f"/share/{sid}", f"/x/share/{sid}/of/ada"):
        await site.visit(PlainView(path=path), look)
    assert seen == [False, True, True, True]


async def test_from_auth_header_takes_one_token_of_its_scheme(kind: type[SpyStorage]) -> None:
    site = Site(from_auth_header(), kind=kind)
    sid = await site.make()
    seen: list[bool] = []

    async def look(session: Session) -> None:
        seen.append(not session.fresh)

    for value in (f"Bearer {sid}", f"bearer  {sid}", f"Bearer {sid}, Bearer {sid}", f"Bearer {sid}\tx", f"Basic {sid}"):
        await site.visit(PlainView(headers=[("authorization", value)]), look)
    await site.visit(PlainView(headers=[("authorization", f"Bearer {sid}")] * 2), look)
    assert seen == [True, True, False, False, False, False]


async def test_from_lookup_works_like_the_places_that_it_names(kind: type[SpyStorage]) -> None:
    site = Site(from_lookup("cookie:sid,header:X-Sid,query:sid,form:sid,param:sid"), kind=kind)
    reply = await site.visit(PlainView(), write)
    sid = reply.all("x-sid")[0]
    views = [
        cookie(sid, "sid"),
        PlainView(headers=[("X-Sid", sid)]),
        PlainView(queries={"sid": sid}),
        PlainView(fields={"sid": sid}),
        PlainView(params={"sid": sid}),
    ]
    for view in views:
        await site.visit(view, write)
    assert (await site.store.get_by_id(sid))["n"] == 6


@pytest.mark.parametrize("second", ["short", "", "u" * 43])
async def test_two_different_values_of_the_cookie_are_no_session_and_none_is_overwritten_by_a_read(
    second: str, kind: type[SpyStorage]
) -> None:
    site = Site(chain(from_cookie("session_id"), from_header("X-Sid")), kind=kind)
    sid = await site.make()
    for cookies in ([f"session_id={sid}; session_id={second}"], [f"session_id={second}", f"session_id={sid}"]):
        view = PlainView([one.encode() for one in cookies], [("X-Sid", sid)])
        reply = await site.visit(view, read)
        assert reply.all("set-cookie") == []
    assert site.kinds() == ["ambiguous", "ambiguous"]
    assert site.storage.calls == []
    assert sid not in repr(site.events)
    same = PlainView([f"session_id={sid}; session_id={sid}".encode()] * 2)
    await site.visit(same, write)
    assert (await site.store.get_by_id(sid))["n"] == 2


async def test_a_custom_extractor_may_wait_and_may_be_anywhere_in_a_chain(kind: type[SpyStorage]) -> None:
    async def extract(view: RequestView) -> str | None:
        await anyio.lowlevel.checkpoint()
        return view.query("sid")

    own = Extractor(extract, Source.HEADER, "X-Own", vary=("X-Own",))
    site = Site(chain(own, from_cookie("session_id")), kind=kind)
    sid = await site.make()
    await site.visit(PlainView(queries={"sid": sid}), write)
    reply = await site.visit(cookie(sid), write)
    assert reply.headers == [("vary", "X-Own, Cookie")]
    assert (await site.store.get_by_id(sid))["n"] == 3
    reply = await site.visit(PlainView(queries={"sid": "u" * 43}, cookies=[f"session_id={sid}".encode()]), login)
    assert reply.all("x-own") == [sid_of(reply.all("set-cookie")[0])]


async def test_an_error_of_a_custom_extractor_is_the_applications(kind: type[SpyStorage]) -> None:
    def extract(view: RequestView) -> str | None:
        raise ZeroDivisionError

    site = Site(Extractor(extract, Source.OTHER, "own"), kind=kind)
    with pytest.raises(ZeroDivisionError):
        await site.visit(PlainView(), read)


@pytest.mark.parametrize(
    ("extractor", "vary"),
    [
        (from_cookie("session_id"), "Cookie"),
        (from_header("X-Sid"), "X-Sid"),
        (from_auth_header(), "Authorization"),
        (from_query("sid"), None),
        (chain(from_cookie("a"), from_cookie("b"), from_header("X-Sid"), from_query("sid")), "Cookie, X-Sid"),
    ],
)
async def test_vary_names_what_was_read_once_the_session_is_used(
    extractor: Extractor, vary: str | None, kind: type[SpyStorage]
) -> None:
    site = Site(extractor, kind=kind)
    assert (await site.visit(PlainView())).vary is None
    assert (await site.visit(PlainView(), read)).vary == vary
    assert (await site.visit(PlainView(), write)).vary == vary


# -- headers


async def test_a_header_extractor_writes_and_clears_its_header(kind: type[SpyStorage]) -> None:
    site = Site(from_header("X-Session-Token"), kind=kind)
    reply = await site.visit(PlainView(), write)
    sid = reply.all("x-session-token")[0]
    assert reply.headers == [("cache-control", "no-store"), ("vary", "X-Session-Token"), ("x-session-token", sid)]
    view = PlainView(headers=[("x-session-token", sid)])
    assert (await site.visit(view, write)).all("x-session-token") == []
    moved = (await site.visit(view, login)).all("x-session-token")
    assert moved not in ([], [sid])
    assert (await site.visit(PlainView(headers=[("X-Session-Token", moved[0])]), destroy)).all("x-session-token") == [
        ""
    ]


async def test_two_ids_in_one_header_are_none(kind: type[SpyStorage]) -> None:
    site = Site(from_header("X-Sid"), kind=kind)
    sid = await site.make()
    await site.visit(PlainView(headers=[("X-Sid", sid), ("X-Sid", "u" * 43)]), read)
    assert site.kinds() == ["ambiguous"]


# -- skip


async def test_a_skipped_request_has_no_session_and_costs_nothing(kind: type[SpyStorage]) -> None:
    asked: list[str] = []

    def skip(view: RequestView) -> bool:
        asked.append(view.path)
        return view.path == "/health"

    site = Site(kind=kind, skip=skip)
    sid = await site.make()
    view = PlainView([f"session_id={sid}".encode()], path="/health")
    assert (await site.visit(view)).headers == []
    for handler in (read, write, login, reset, destroy, save):
        reply = await site.visit(view, handler)
        assert isinstance(reply.error, SessionNotLoaded)
        assert "skip" in str(reply.error)
    assert site.storage.calls == []
    assert (await site.visit(cookie(sid), write)).error is None
    assert set(asked) == {"/health", "/"}


async def test_obtain_returns_the_session_or_says_why_there_is_none(kind: type[SpyStorage]) -> None:
    site = Site(kind=kind, skip=lambda view: view.path == "/health")  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType]
    sid = await site.make(n=3)
    exchange = site.store.exchange(cookie(sid))
    assert (await obtain(exchange))["n"] == 3
    assert await obtain(exchange) is exchange.session
    await exchange.finish()
    assert (await obtain(exchange))["n"] == 3  # released, and read still
    with pytest.raises(SessionNotLoaded):
        await obtain(site.store.exchange(PlainView(path="/health")))
    site.storage.fail("load")
    exchange = site.store.exchange(cookie(sid))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await obtain(exchange)
    assert site.storage.calls.count("load") == 2  # one for each exchange


# -- several tasks


async def test_several_tasks_of_a_request_load_once_and_get_one_session(kind: type[SpyStorage]) -> None:
    site = Site(kind=kind)
    sid = await site.make(n=0)

    async def slow() -> None:
        await anyio.sleep(0.01)

    site.storage.before["load"] = slow
    exchange = site.store.exchange(cookie(sid))
    sessions: list[Session] = []

    async def task() -> None:
        session = await obtain(exchange)
        session["n"] += 1
        sessions.append(session)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(task)
    assert site.storage.calls == ["load"]
    assert all(session is exchange.session for session in sessions)
    await exchange.commit(200)
    await exchange.finish()
    assert (await site.store.get_by_id(sid))["n"] == 10


async def test_a_task_that_waits_for_the_load_takes_over_when_the_first_is_cancelled() -> None:
    site = Site()
    sid = await site.make(n=3)
    site.storage.before["load"] = anyio.sleep_forever
    exchange = site.store.exchange(cookie(sid))
    seen: list[int] = []

    async def second() -> None:
        seen.append((await obtain(exchange))["n"])

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.02):
            group.start_soon(second)
            group.start_soon(second)
            await exchange.load()
    assert seen == [3, 3]
    await exchange.finish()


async def test_two_loads_that_are_made_before_either_is_awaited_look_once() -> None:
    site = Site()
    exchange = site.store.exchange(cookie(await site.make(n=0)))

    async def wait(work: Awaitable[None]) -> None:
        await work

    async with anyio.create_task_group() as group:
        for work in (exchange.load(), exchange.load()):
            group.start_soon(wait, work)
    assert site.storage.calls == ["load"]


async def test_a_load_that_is_awaited_late_overwrites_nothing() -> None:
    site = Site()
    sid = await site.make(n=0)
    exchange = site.store.exchange(cookie(sid))
    first, second = exchange.load(), exchange.load()
    await first
    exchange.session["n"] = 1
    await second
    assert exchange.session["n"] == 1
    await exchange.commit(200)
    await exchange.finish()
    assert (await site.store.get_by_id(sid))["n"] == 1


# -- answers


async def test_an_outage_is_503_too_many_sessions_409_and_the_rest_500() -> None:
    site = Site()
    for error, status in [
        (StorageUnavailable("secret"), 503),
        (OwnerLimitReached("secret"), 409),
        (StorageError("secret"), 500),
        (SessionTooLarge("secret"), 500),
        (SessionNotLoaded("secret"), 500),
    ]:
        exchange = site.store.exchange(PlainView())
        await exchange.load()
        answer = response_to(exchange, error)
        assert answer.status == status
        assert b"secret" not in answer.body
        assert dict(answer.headers) == {
            "content-type": "text/plain; charset=utf-8",
            "content-length": str(len(answer.body)),
            "cache-control": "no-store",
        }
        await exchange.finish(failed=True)


@pytest.mark.parametrize(
    ("given", "status", "body"),
    [(None, 503, b"Service Unavailable"), ((418, "tea: ä"), 418, "tea: ä".encode()), ((599, b"raw"), 599, b"raw")],
)
async def test_on_error_may_choose_the_answer(given: Any, status: int, body: bytes) -> None:
    asked: list[tuple[str, SessionError]] = []

    def on_error(view: RequestView, error: SessionError) -> Any:
        asked.append((view.path, error))
        return given

    site = Site(on_error=on_error)
    exchange = site.store.exchange(PlainView(path="/buy"))
    await exchange.load()
    error = StorageUnavailable("down")
    answer = response_to(exchange, error)
    assert (answer.status, answer.body) == (status, body)
    assert ("content-length", str(len(body))) in answer.headers
    assert asked == [("/buy", error)]
    await exchange.finish(failed=True)


async def test_server_errors_are_logged_with_their_text_and_refusals_are_not(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    for error in (StorageUnavailable("why it failed"), OwnerLimitReached("too many")):
        exchange = site.store.exchange(PlainView())
        await exchange.load()
        response_to(exchange, error)
        await exchange.finish(failed=True)
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in logged] == ["a request failed with status 503: why it failed"]


async def test_an_answer_tells_the_client_what_was_stored_or_ended_before_the_error() -> None:
    site = Site()
    exchange = site.store.exchange(PlainView())
    await exchange.load()
    exchange.session["n"] = 1
    await exchange.session.save()
    sid = exchange.session.id
    exchange.session["x"] = object()
    with pytest.raises(SessionError) as caught:
        await exchange.commit(200)
    answer = response_to(exchange, caught.value)
    assert [sid_of(value) for name, value in answer.headers if name == "set-cookie"] == [sid]
    await exchange.finish(failed=True)
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    await exchange.session.destroy()
    answer = response_to(exchange, StorageUnavailable("later"))
    assert [sid_of(value) for name, value in answer.headers if name == "set-cookie"] == [""]
    await exchange.finish(failed=True)


async def test_a_failed_move_leaves_the_old_session_and_sends_nothing() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    await exchange.session.login("ada")
    site.storage.fail("move")
    with pytest.raises(StorageUnavailable) as caught:
        await exchange.commit(200)
    assert not [name for name, _ in response_to(exchange, caught.value).headers if name == "set-cookie"]
    await exchange.finish(failed=True)
    assert (await site.store.get_by_id(sid)).owner is None


# -- the order of things


async def test_a_second_commit_does_nothing() -> None:
    site = Site()
    exchange = site.store.exchange(PlainView())
    await exchange.load()
    exchange.session["n"] = 1
    assert len(await exchange.commit(200)) == 1
    assert await exchange.commit(200) == []
    assert await exchange.commit(None) == []
    await exchange.finish()
    await exchange.finish()
    assert site.storage.calls == ["create"]


async def test_what_is_not_committed_is_dropped_when_no_response_came() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    exchange.session["n"] = 9
    await exchange.finish(failed=True)
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    exchange.session["n"] = 9
    await exchange.finish()
    assert (await site.store.get_by_id(sid))["n"] == 1


async def test_late_changes_of_a_handler_that_failed_are_dropped() -> None:
    site = Site()
    sid = await site.make()
    for failed in (True, False):
        exchange = site.store.exchange(cookie(sid))
        await exchange.load()
        assert await exchange.commit(200) == []
        exchange.session["n"] = 9
        await exchange.finish(failed=failed)
        assert (await site.store.get_by_id(sid))["n"] == (1 if failed else 9)


async def test_a_late_change_that_cannot_be_stored_is_an_error_and_the_session_is_released() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    await exchange.commit(200)
    exchange.session["x"] = object()
    with pytest.raises(SessionError, match="'x'"):
        await exchange.finish()
    assert exchange.session.get("n") == 1
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 2


async def test_after_the_response_a_live_session_takes_writes_and_no_new_id() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    assert await exchange.commit(200) == []
    for verb in (login, regenerate, reset):
        with pytest.raises(ResponseStarted):
            await verb(exchange.session)
    exchange.session["late"] = 1
    await exchange.finish()
    assert dict(await site.store.get_by_id(sid)) == {"n": 1, "late": 1}


def exchange_of(site: Site) -> Exchange:
    return site.store.exchange(PlainView())


async def test_an_exchange_shows_no_id() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    assert sid not in repr(exchange)
    assert "<Exchange of <Session" in repr(exchange)
    await exchange.finish()
    assert sid not in repr(exchange)


async def test_an_exchange_that_is_over_is_not_loaded() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.finish()
    await exchange.load()
    with pytest.raises(SessionReleased):
        exchange.session.get("n")
    assert site.storage.calls == []


# -- a response that cannot carry headers: a WebSocket that is refused


async def test_denying_keeps_changes_of_a_session_that_the_client_has() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    exchange.session["n"] = 2
    await exchange.commit(None)
    await exchange.finish()
    assert (await site.store.get_by_id(sid))["n"] == 2


@pytest.mark.parametrize("verb", [login, regenerate])
async def test_denying_drops_what_needs_a_header(verb: Handler) -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    exchange.session["n"] = 2
    await verb(exchange.session)
    await exchange.commit(None)
    await exchange.finish()
    held = await site.store.get_by_id(sid)
    assert (held["n"], held.owner) == (1, None)
    assert site.kinds() == []


async def test_denying_a_stranger_stores_nothing_and_a_logout_holds() -> None:
    site = Site()
    exchange = exchange_of(site)
    await exchange.load()
    exchange.session["n"] = 1
    await exchange.commit(None)
    await exchange.finish()
    assert site.storage.calls == []
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    await exchange.session.destroy()
    exchange.session["n"] = 2
    await exchange.commit(None)
    await exchange.finish()
    assert len(site.storage.inner) == 0


# -- plain http


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_secure_cookie_over_plain_http_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, kind: type[SpyStorage]
) -> None:
    site = Site(kind=kind, cookie_secure=True)
    for host in ("localhost", "localhost:8000", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
        await site.visit(PlainView(headers=[("host", host)], scheme="http"), write)
    await site.visit(PlainView(headers=[("host", "shop.example")], scheme="https"), write)
    await site.visit(PlainView(headers=[("host", "shop.example")], scheme="wss"), write)
    assert warnings_in(caplog) == []
    for scheme in ("http", "http", "ws"):
        await site.visit(PlainView(headers=[("host", "shop.example")], scheme=scheme), write)
    assert len(warnings_in(caplog)) == 1
    assert re.search(r"TLS .*development\(\)", warnings_in(caplog)[0])


async def test_forwarded_headers_neither_excuse_nor_cause_the_warning(
    caplog: pytest.LogCaptureFixture, kind: type[SpyStorage]
) -> None:
    site = Site(kind=kind, cookie_secure=True)
    forwarded = [("host", "shop.example"), ("X-Forwarded-Proto", "https"), ("Forwarded", "proto=https")]
    await site.visit(PlainView(headers=forwarded, scheme="http"), write)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("headers", [[], [("host", "localhost.evil.example")], [("host", "10.0.0.1:80")]])
async def test_other_hosts_are_warned_of(
    headers: list[tuple[str, str]], caplog: pytest.LogCaptureFixture, kind: type[SpyStorage]
) -> None:
    site = Site(kind=kind, cookie_secure=True)
    await site.visit(PlainView(headers=headers, scheme="http"), write)
    assert len(warnings_in(caplog)) == 1


async def test_without_a_secure_cookie_in_the_response_nothing_is_warned_of(
    caplog: pytest.LogCaptureFixture, kind: type[SpyStorage]
) -> None:
    plain = [("host", "shop.example")]
    await Site(kind=kind).visit(PlainView(headers=plain, scheme="http"), write)
    await Site(from_header("X-Sid"), kind=kind, cookie_secure=True).visit(
        PlainView(headers=plain, scheme="http"), write
    )
    site = Site(kind=kind, cookie_secure=True)
    await site.visit(PlainView(headers=plain, scheme="http"), read)
    assert warnings_in(caplog) == []


# -- the generator


@pytest.mark.parametrize("bad", ["", "short", "x" * 257, "ä" * 43, "a b" * 20, None, 5, b"x" * 43])
async def test_a_generator_that_gives_no_id_is_a_configuration_error_and_nothing_is_stored(bad: Any) -> None:
    site = Site(id_generator=lambda: bad)
    reply = await site.visit(PlainView(), write)
    assert isinstance(reply.error, ConfigError)
    assert "id_generator" in str(reply.error)
    assert site.storage.calls == []
    assert len(str(bad)) < 6 or str(bad) not in str(reply.error)


async def test_save_on_server_error_keeps_what_needs_no_header_where_no_response_came() -> None:
    for keeps in (True, False):
        site = Site(save_on_server_error=keeps)
        sid = await site.make()
        exchange = site.store.exchange(cookie(sid))
        await exchange.load()
        exchange.session["n"] = 9
        await exchange.finish(failed=True)
        assert (await site.store.get_by_id(sid))["n"] == (9 if keeps else 1)
        stranger = exchange_of(site)
        await stranger.load()
        stranger.session["n"] = 1
        await stranger.finish(failed=True)
        assert len(site.storage.inner) == 1


async def test_an_answer_after_the_session_was_released_tells_the_client_nothing_new() -> None:
    site = Site()
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    exchange.session.release()
    with pytest.raises(SessionReleased) as caught:
        exchange.session["n"] = 2
    answer = response_to(exchange, caught.value)
    assert (answer.status, "set-cookie" in dict(answer.headers)) == (500, False)
    await exchange.finish(failed=True)
    assert (await site.store.get_by_id(sid))["n"] == 1


async def test_a_refused_login_whose_session_is_ended_meanwhile_leaves_nothing() -> None:
    site = Site(max_sessions_per_owner=1, on_owner_limit="refuse", absolute_timeout=None)
    older = SessionStore(SessionConfig(storage=site.storage.inner, clock=lambda: 1.0, absolute_timeout=None))
    sid = await site.make()

    async def somebody_was_first() -> None:
        await older.create(owner="ada")
        site.storage.before["move"] = everything_ends

    async def everything_ends() -> None:
        await older.reset()

    site.storage.before["move"] = somebody_was_first
    reply = await site.visit(cookie(sid), login)
    assert isinstance(reply.error, OwnerLimitReached)
    assert reply.all("set-cookie") == []
    assert len(site.storage.inner) == 0


@pytest.mark.parametrize(
    "given", [ZeroDivisionError(), 503, (503,), (503, None), (503, 5.5), ("503", "x"), (99, "x"), (600, "x")]
)
async def test_a_mistake_in_on_error_does_not_cost_the_client_its_answer(
    given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(_view: RequestView, _error: SessionError) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    site = Site(on_error=on_error)
    site.storage.fail("load")
    answers: list[tuple[int, bytes]] = []
    exchange = site.store.exchange(cookie("a" * 43))
    await exchange.load()
    try:
        exchange.session.get("n")
    except SessionError as error:
        answer = response_to(exchange, error)
        answers.append((answer.status, answer.body))
    await exchange.finish()
    assert answers == [(503, b"Service Unavailable")]
    assert "on_error must return None or (status, body" in caplog.text


@pytest.mark.parametrize("given", [b"a" * 43, 5, ["a" * 43]])
async def test_an_extractor_that_returns_no_text_is_told_so(given: Any) -> None:
    def now(_: RequestView) -> Any:
        return given

    async def late(_: RequestView) -> Any:
        return given

    extractors = Extractor(now, Source.OTHER, "mine"), Extractor(late, Source.OTHER, "mine")
    for extractor in extractors:
        site = Site(extractor)
        exchange = site.store.exchange(PlainView())
        with pytest.raises(
            ConfigError, match=f"the extractor of 'mine' must return str or None, not {type(given).__name__}"
        ):
            await exchange.load()
        await exchange.finish()


async def test_endless_conflicts_leave_the_loop_to_others() -> None:
    site = Site(storage_timeout=timedelta(seconds=0.2))
    sid = await site.make()
    exchange = site.store.exchange(cookie(sid))
    await exchange.load()
    exchange.session["n"] = 2
    turns, over = 0, False

    async def write_first() -> None:
        site.storage.before["replace"] = write_first
        stored = await site.storage.inner.load(f"session:{exchange.session.handle}")
        assert isinstance(stored, Stored)
        await site.storage.inner.replace(f"session:{exchange.session.handle}", stored.data, 60, version=stored.version)

    async def count() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await anyio.lowlevel.checkpoint()

    site.storage.before["replace"] = write_first
    async with anyio.create_task_group() as group:
        group.start_soon(count)
        with pytest.raises(StorageUnavailable, match="other requests kept writing"):
            await exchange.commit(200)
        over = True
    assert turns > 10
    await exchange.finish()
