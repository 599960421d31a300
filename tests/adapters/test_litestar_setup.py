"""Litestar: what the plugin refuses, the names of stores, the lifespan, and streams."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.di import NamedDependency, Provide
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.response import Stream
from litestar.testing import TestClient
from tests.adapters.litestar_kit import AnyRequest, Open, put, read, write
from tests.stores import SpyStorage, without_checks

import sessioncore
from sessioncore import ConfigError, SessionStore
from sessioncore_litestar import SessionPlugin, get_session


@pytest.mark.parametrize("exclude", ["", ["^/static/", ""]])
def test_a_pattern_that_leaves_out_everything_is_refused(store: SessionStore, exclude: Any) -> None:
    with pytest.raises(ConfigError, match="every path"):
        SessionPlugin(store, exclude=exclude)


def test_beside_litestars_own_sessions_the_plugin_needs_another_name(store: SessionStore) -> None:
    @get("/both")
    async def both(request: AnyRequest) -> dict[str, Any]:
        ours = await get_session(request, scope_key="account")
        request.session["n"] = request.session.get("n", 0) + 1
        ours["n"] = ours.get("n", 10) + 1
        return {"theirs": request.session["n"], "ours": ours["n"]}

    @get("/id")
    async def tell(request: AnyRequest) -> str | None:
        return request.get_session_id()

    theirs = ServerSideSessionConfig(secure=True).middleware
    with pytest.raises(ConfigError, match="remove that from middleware="):
        Litestar([both], plugins=[SessionPlugin(store)], middleware=[theirs])
    app = Litestar([both, tell], plugins=[SessionPlugin(store, scope_key="account")], middleware=[theirs])
    with TestClient(app, base_url="https://testserver.local") as client:
        assert client.get("/both").json() == {"theirs": 1, "ours": 11}
        assert client.get("/both").json() == {"theirs": 2, "ours": 12}
        assert client.get("/id").text == client.cookies["session"]


class Session:
    """Named like SQLAlchemy's."""


async def own_session() -> Session:
    return Session()


@get("/named", dependencies={"own": Provide(own_session)})
async def named(own: "NamedDependency[Session]", session: "NamedDependency[sessioncore.Session]") -> list[str]:
    return [type(one).__module__ for one in (own, session)]


def test_an_annotation_that_is_text_means_the_class_of_its_own_module(enter: Open) -> None:
    assert enter(named).get("/named").json() == [__name__, sessioncore.Session.__module__]


@get("/name", dependencies={"session": Provide(own_session)})
async def name(session: NamedDependency[Session]) -> str:
    return type(session).__module__


@pytest.mark.parametrize("scope_key", ["session", "admin_session"])
def test_an_applications_dependency_of_that_name_is_refused(store: SessionStore, scope_key: str) -> None:
    given = {scope_key: Provide(own_session)}
    with pytest.raises(ConfigError, match=rf"'{scope_key}'.*rename the dependency"):
        Litestar([], plugins=[SessionPlugin(store, scope_key=scope_key)], dependencies=given)


def test_a_routes_own_dependency_of_that_name_comes_first(enter: Open) -> None:
    assert enter(name).get("/name").text == __name__


def test_the_storage_lives_as_long_as_the_application(store: SessionStore, storage: SpyStorage) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(without_checks(storage.calls))

    with TestClient(Litestar([], plugins=[SessionPlugin(store)], on_startup=[look], on_shutdown=[look])):
        pass
    assert seen == [["open"], ["open"]]
    assert without_checks(storage.calls) == ["open", "aclose"]


@pytest.mark.anyio
async def test_an_application_that_does_not_start_leaves_the_storage_to_others(storage: SpyStorage) -> None:
    async with SessionStore(sessioncore.SessionConfig(storage=storage)) as store:
        storage.fail("open", times=1)
        with pytest.raises(ExceptionGroup):
            async with Litestar([], plugins=[SessionPlugin(store)]).lifespan():
                raise AssertionError("it started")
        assert "aclose" not in storage.calls
    assert storage.calls[-1] == "aclose"


@get("/replaced")
async def replaced(request: AnyRequest) -> Stream:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"
        put(request, {"late": 2})

    return Stream(parts())


def test_set_session_during_a_stream_is_stored(enter: Open) -> None:
    client = enter(write, read, replaced)
    client.post("/write")
    assert client.get("/replaced").text == "x"
    assert client.get("/read").json() == {"late": 2}


CACHED: list[tuple[Callable[[AnyRequest], object] | None, int]] = [  # a use, and how often the handler runs
    (lambda request: request.session.get("n"), 2), (lambda request: put(request, {"n": 1}), 2), (None, 1),
]  # fmt: skip


@pytest.mark.parametrize(("use", "runs"), CACHED)
def test_a_response_that_used_the_session_is_cached_for_nobody_else(
    use: Any, runs: int, enter: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ran = list[str]()

    async def page(request: AnyRequest) -> None:
        ran.append(request.url.path)
        if use is not None:
            use(request)

    def mine(_: AnyRequest) -> str:
        return "mine"

    of_mine = get("/mine", cache=60, cache_key_builder=mine)(page)
    client = enter(get("/all", cache=60)(page), of_mine, logging_config=None)
    for path in ("/all", "/mine", "/all", "/mine"):
        assert client.get(path).status_code == 200
    assert (ran.count("/all"), ran.count("/mine")) == (runs, 1)  # a cache_key_builder of the application's own decides
    assert caplog.text.count("cache_key_builder") == (use is not None)
