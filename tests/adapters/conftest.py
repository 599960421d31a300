"""One site per test: an application of each framework, on a real server, with a storage to look into."""

import functools
import importlib
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, Self

import pytest
import trustme
from aiohttp import web
from msgspec import Struct
from tests.adapters.browser import Address, Browser, Reply, ask, compose, until
from tests.adapters.litestar_kit import Open, clients
from tests.adapters.servers import SERVERS, Server, serve, serve_aiohttp
from tests.stores import SpyStorage, without_checks

from sessioncore import SessionConfig, SessionEvent, SessionNotFound, SessionStore

ADAPTERS: Final = ("asgi", "aiohttp", "litestar")

Tls = tuple[ssl.SSLContext, ssl.SSLContext]


class Site(Struct):
    """An application that is being served."""

    adapter: str
    store: SessionStore
    storage: SpyStorage
    server: Server
    events: list[SessionEvent]

    @property
    def address(self) -> Address:
        return self.server.address

    def browser(self, *headers: tuple[str, str]) -> Browser:
        return Browser(self.address, headers)

    def cookie(self, browser: Browser) -> str | None:
        """The ID that a browser holds."""
        return browser.cookies.get(self.store.config.extractor.key)

    def raw(
        self, path: str, *headers: tuple[bytes | str, bytes | str], method: str = "GET", body: bytes = b""
    ) -> Reply:
        """Send headers as they are, byte by byte."""
        return ask(self.address, compose(method, path, headers, body))

    def calls(self, number: int = 0) -> list[str]:
        """The storage calls since the last call of this. Waits for `number` of them: some come after the response."""

        def made() -> list[str]:
            return [call for call in without_checks(self.storage.calls) if call not in {"open", "aclose"}]

        until(lambda: len(made()) >= number)
        calls, self.storage.calls[:] = made(), []
        return calls

    def kinds(self) -> list[str]:
        """The kinds of the events since the last call of this."""
        kinds, self.events[:] = [event.kind.value for event in self.events], []
        return kinds

    def reset(self) -> Self:
        """Remove all records, faults, calls and events."""
        assert not self.server.trouble

        async def empty() -> None:
            self.storage.restore()
            await self.storage.inner.clear("")

        self.server.run(empty)
        self.storage.before.clear()
        self.storage.after.clear()
        self.storage.calls.clear()
        self.events.clear()
        return self

    def count(self) -> int:
        """How many records are stored."""
        return len(self.storage.inner)

    def make(self, data: dict[str, Any], owner: str | None = None) -> str:
        """Store a session, as another process would, and return its ID."""

        async def create() -> str:
            session = await self.store.create(data, owner=owner)
            sid = session.id
            session.release()
            return sid

        sid = self.server.run(create)
        self.calls()
        self.kinds()
        return sid

    def data(self, sid: str) -> dict[str, Any] | None:
        """What is stored under an ID, or None; not counted among the calls."""

        async def look() -> dict[str, Any] | None:
            try:
                async with self.store.open(sid) as session:
                    return dict(session)
            except SessionNotFound:
                return None

        before = list(self.storage.calls)
        found = self.server.run(look)
        self.storage.calls[:] = before
        return found


OpenSite = Callable[..., Site]  # takes the other arguments of `start`
Sites = Callable[..., Site]  # takes an adapter, the class of a storage, and settings


@pytest.fixture(scope="session")
def tls() -> Tls:
    """A certificate for localhost, and a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
    return server, client


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    """The name of one framework."""
    return str(request.param)


def start(
    stack: ExitStack,
    adapter: str,
    tls: Tls,
    *others: tuple[str, SessionStore | None],
    plain: bool = False,
    **settings: Any,
) -> Site:
    """Serve the scenario application of an adapter until `stack` is closed.

    `others` are further stores with their `scope_key`. `settings` are those of SessionConfig; with `plain`, those of
    its `development()`, over http.
    """
    storage = settings.pop("storage", None) or SpyStorage()
    events: list[SessionEvent] = []
    make = SessionConfig.development if plain else SessionConfig
    store = SessionStore(make(storage=storage, on_event=events.append, **settings))
    more = [(key, store if other is None else other) for key, other in others]  # None: the first store again
    app = importlib.import_module(f"tests.adapters.apps_{adapter.partition('-')[0]}").make_app(store, *more)
    server = stack.enter_context(serve(SERVERS[adapter], app, None if plain else tls))
    stack.callback(storage.restore)  # before the server stops
    return Site(adapter, store, storage, server, events)


@pytest.fixture(scope="session")
def sites(tls: Tls) -> Iterator[Sites]:
    """Returns the site of an adapter, storage and configuration; each is started once, when it is first needed."""
    with ExitStack() as stack:

        @functools.cache
        def started(adapter: str, storage: type[SpyStorage], **settings: Any) -> Site:
            return start(stack, adapter, tls, storage=storage(), **settings)

        yield started


@pytest.fixture
def site(adapter: str, sites: Sites) -> Site:
    """The application with the defaults for production, over TLS; the tests share it one after another."""
    return sites(adapter, SpyStorage).reset()


@pytest.fixture
def open_site(adapter: str, tls: Tls) -> Iterator[OpenSite]:
    """Serve the scenario application with a configuration; every site is stopped at the end."""
    with ExitStack() as stack:
        yield functools.partial(start, stack, adapter, tls)


# -- for an adapter's own tests


@pytest.fixture
def storage() -> SpyStorage:
    """The storage of `store`."""
    return SpyStorage()


@pytest.fixture
def store(storage: SpyStorage) -> SessionStore:
    """A store with the defaults for production."""
    return SessionStore(SessionConfig(storage=storage))


Visit = Callable[[web.Application], Browser]


@pytest.fixture
def visit(tls: Tls) -> Iterator[Visit]:
    """Serve a test's own aiohttp application over TLS, and return a browser for it."""
    with ExitStack() as stack:
        yield lambda app: Browser(stack.enter_context(serve(serve_aiohttp, app, tls)).address)


@pytest.fixture
def enter(anyio_backend: str, store: SessionStore) -> Iterator[Open]:
    """Open a test's own Litestar applications in Litestar's test client, which needs no server."""
    with clients(store, anyio_backend) as open_:
        yield open_
