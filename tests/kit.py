"""What tests of the core work with: a store with its storage, clock, events and visitor; also requests and handlers."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct
from tests.stores import SpyStorage
from tests.views import PlainView, Visitor, response_to

from sessioncore import (
    EventKind,
    Exchange,
    Session,
    SessionConfig,
    SessionError,
    SessionEvent,
    SessionNotFound,
    SessionStore,
    StorageUnavailable,
)
from sessioncore.storage import Stored
from sessioncore.testing import ManualClock

__all__ = [
    "BOTH_LOOPS", "Lab", "Reply", "Work", "anyio_backend", "destroy", "doing", "lab", "login", "lose", "max_age",
    "mutate", "read", "regenerate", "reset", "serve", "write",
]  # fmt: skip

Work = Callable[[Session], Awaitable[object]]

BOTH_LOOPS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone, for tests in which no task, timer or cancel scope plays a part; others are marked BOTH_LOOPS."""
    return "asyncio"


class Lab:
    """A store on a storage that counts its calls and lets a test step in, with its clock, events and a visitor."""

    def __init__(
        self,
        storage: SpyStorage | None = None,
        *,
        kind: type[SpyStorage] = SpyStorage,
        clock: ManualClock | None = None,
        **config: Any,
    ) -> None:
        self.clock = clock or ManualClock()
        self.storage = storage or kind(self.clock)
        self.events: list[SessionEvent] = []
        self._config = config
        given: dict[str, Any] = {"clock": self.clock, "on_event": self.events.append, **config}
        self.store = SessionStore(SessionConfig(storage=self.storage, **given))
        self.visitor = Visitor(self.store)

    @property
    def calls(self) -> list[str]:
        """The calls to the storage, since `forget`."""
        return self.storage.calls

    def forget(self) -> None:
        """Count calls and events from here on."""
        self.storage.calls.clear()
        self.events.clear()

    def kinds(self, *without: str) -> list[str]:
        return [event.kind.value for event in self.events if event.kind.value not in without]

    def sent(self, kind: EventKind) -> list[SessionEvent]:
        return [event for event in self.events if event.kind is kind]

    def beside(self, **config: Any) -> SessionStore:
        """The store of another process, on the same records: nothing that it does is counted here."""
        given: dict[str, Any] = {"storage": self.storage.inner, "clock": self.clock, **self._config, **config}
        return SessionStore(SessionConfig(**given))

    async def begin(self, **data: Any) -> Visitor:
        """Give the visitor a session, by default with n=1; calls and events are counted from here on."""
        async with self.visitor.request() as session:
            session.update(data or {"n": 1})
        self.forget()
        return self.visitor

    async def begin_request(self, **data: Any) -> Exchange:
        """Give the visitor a session, as `begin` does, and begin a request with it."""
        return await (await self.begin(**data)).arrive()

    async def held(self, **data: Any) -> Session:
        """Give the visitor a session, as `begin` does, and load it outside of any request."""
        return await self.store.get_by_id((await self.begin(**data)).sid or "")

    async def found(self, sid: str | None = None) -> Session | None:
        """The session that is stored under an ID, by default the visitor's, as another process sees it."""
        try:
            return await self.beside().get_by_id(sid or self.visitor.sid or "")
        except SessionNotFound:
            return None

    async def kept(self, sid: str | None = None) -> Session:
        """The session that is stored under an ID, which must be there."""
        session = await self.found(sid)
        assert session is not None
        return session

    async def data(self, sid: str | None = None) -> dict[str, Any] | None:
        session = await self.found(sid)
        return None if session is None else dict(session)

    async def stored(self, session: Session) -> Stored:
        """The record of a session as the storage returns it."""
        record = await self.storage.inner.load(f"{self.store.config.key_prefix}{session.handle}")
        assert isinstance(record, Stored)
        return record


@pytest.fixture
def lab() -> Lab:
    """A lab whose store is configured by default."""
    return Lab()


async def lose(*_: object) -> None:
    """Fail a call as an outage does: for `before` and `after` of a SpyStorage."""
    raise StorageUnavailable("lost by a test")


# -- requests of every kind


class Reply(Struct):
    """The headers of a response, and the error that led to it."""

    headers: list[tuple[str, str]]
    error: SessionError | None = None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def cookies(self) -> dict[str, str]:
        """What the response sets, without attributes."""
        return dict(line.partition(";")[0].split("=", 1) for line in self.all("set-cookie"))


async def serve(store: SessionStore, view: PlainView, work: Work | None = None, status: int = 200) -> Reply:
    """The smallest of adapters: load, let `work` use the session, commit, finish."""
    exchange = store.exchange(view)
    await exchange.load()
    try:
        if work is not None:
            await work(exchange.session)
        added = await exchange.commit(status)
        headers = [(name.decode(), value.decode()) for name, value in exchange.revise([], added)]
        assert exchange.session.accessed or not headers
    except SessionError as error:
        return Reply(response_to(exchange, error).headers, error)
    finally:
        await exchange.finish()
    return Reply(headers)


def max_age(headers: list[tuple[str, str]]) -> int | None:
    """The Max-Age of the cookie that these headers set, if they set one that has it."""
    found = [part for _, value in headers for part in value.split("; ") if part.startswith("Max-Age=")]
    return int(found[0].removeprefix("Max-Age=")) if found else None


# -- what handlers do


def doing(change: Callable[[Session], object]) -> Work:
    """A handler that makes this change."""

    async def work(session: Session) -> None:
        change(session)

    return work


async def read(session: Session) -> None:
    session.get("n")


async def write(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


async def mutate(session: Session) -> None:
    session.mutate("n", lambda n: n + 1, default=0)


async def login(session: Session) -> None:
    await session.login("ada")


regenerate, reset, destroy = Session.regenerate, Session.reset, Session.destroy
