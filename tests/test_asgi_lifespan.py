"""The lifespan on ASGI: the storage opens first and closes last, whatever the application is like."""

from typing import Any

import pytest
from tests.asgi import Message, Wire
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore, StorageUnavailable
from sessioncore_asgi import SessionMiddleware

pytestmark = pytest.mark.anyio

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}


class Site:
    """An application whose lifespan writes down what happens, behind the middleware."""

    def __init__(self) -> None:
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage))

    @property
    def happened(self) -> list[str]:
        return self.storage.calls

    async def run(self, app: Any, *, store: SessionStore | None = None) -> list[str]:
        """Start and stop the application; return the types of its messages."""
        wire = Wire([STARTUP, SHUTDOWN])
        await SessionMiddleware(app, store or self.store)({"type": "lifespan", "state": {}}, wire.receive, wire.send)
        self.wire = wire
        return [message["type"] for message in wire.sent]

    async def full(self, scope: Any, receive: Any, send: Any) -> None:
        assert await receive() is STARTUP
        self.happened.append("app starts")
        await send({"type": "lifespan.startup.complete"})
        assert await receive() is SHUTDOWN
        self.happened.append("app stops")
        await send({"type": "lifespan.shutdown.complete"})


BOTH = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_the_storage_opens_before_the_application_starts_and_closes_after_it_stopped() -> None:
    site = Site()
    assert await site.run(site.full) == BOTH
    assert site.happened == ["open", "app starts", "app stops", "aclose"]


async def test_the_lifespan_of_two_stores_opens_and_closes_both() -> None:
    site, other = Site(), Site()
    assert await site.run(SessionMiddleware(site.full, other.store, scope_key="other")) == BOTH
    assert site.happened == ["open", "app starts", "app stops", "aclose"]
    assert other.happened == ["open", "aclose"]


async def test_an_application_that_refuses_the_lifespan_gets_its_storage_opened_and_closed() -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    async def ignores(scope: Any, receive: Any, send: Any) -> None:
        return

    for app in (refuses, ignores):
        site = Site()
        assert await site.run(app) == BOTH
        assert site.happened == ["open", "aclose"]


async def test_an_application_that_takes_the_lifespan_for_a_request_is_as_good_as_without_one() -> None:
    async def hello(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("path")

    site = Site()
    assert await site.run(hello) == BOTH


async def test_a_storage_that_does_not_open_stops_the_start_with_its_reason() -> None:
    site = Site()
    site.storage.fail("open")
    for app in (site.full, None):

        async def without(scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError("no lifespan here")

        wire = Wire([STARTUP])
        with pytest.raises(StorageUnavailable):
            await SessionMiddleware(app or without, site.store)({"type": "lifespan"}, wire.receive, wire.send)
        assert [message["type"] for message in wire.sent] == ["lifespan.startup.failed"]
        assert "did not open: failed by a test" in wire.sent[0]["message"]
    assert "app starts" not in site.happened


async def test_an_application_that_fails_to_start_leaves_the_storage_closed() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    site = Site()
    wire = Wire([STARTUP])
    with pytest.raises(RuntimeError, match="no database"):
        await SessionMiddleware(fails, site.store)({"type": "lifespan"}, wire.receive, wire.send)
    assert wire.sent == [{"type": "lifespan.startup.failed", "message": "no database"}]
    assert site.happened == ["open", "aclose"]


async def test_an_application_that_fails_to_stop_leaves_the_storage_closed() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "stuck"})

    site = Site()
    assert await site.run(fails) == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert site.happened == ["open", "aclose"]


async def test_state_of_the_lifespan_passes_through() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await site.full(scope, receive, send)

    site = Site()
    scope: dict[str, Any] = {"type": "lifespan", "state": {"a": 1}}
    wire = Wire([STARTUP, SHUTDOWN])
    await SessionMiddleware(app, site.store)(scope, wire.receive, wire.send)
    assert seen[0] is scope
    assert scope == {"type": "lifespan", "state": {"a": 1}}


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_an_application_that_breaks_off_leaves_no_storage_open(how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if how == "raises":
            raise RuntimeError("cannot start")

    site = Site()
    if how == "raises":
        with pytest.raises(RuntimeError, match="cannot start"):
            await site.run(app)
    else:
        await site.run(app)
    assert site.happened == ["open", "aclose"]
