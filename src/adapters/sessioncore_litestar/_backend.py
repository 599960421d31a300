"""A Litestar session backend and its configuration, for SessionAuth, FlashPlugin and TestClient.

The backend reads and writes through an exchange, like a request. So it never accepts an ID that
the store did not issue, and it writes only what has changed.
"""

from typing import Any, Literal, cast

from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend
from litestar.types import Message

from sessioncore import ConfigError, Exchange, SessionStore, Source
from sessioncore.integration import check_store, flatten
from sessioncore_asgi._view import AsgiView
from sessioncore_litestar._connection import AnyConnection, replace_data
from sessioncore_litestar._middleware import SessionMiddleware

__all__ = ["SessionBackend", "SessionBackendConfig"]


class SessionBackend(BaseSessionBackend["SessionBackendConfig"]):
    """Adapts a store to Litestar's interface for session backends."""

    def __deepcopy__(self, memo: object) -> "SessionBackend":
        return self  # Litestar copies the middleware of each layer, but there is only one store

    def get_session_id(self, connection: AnyConnection) -> str | None:
        """Return the ID of the session, or None; an ID that the client sent does not count."""
        sid: str | None = cast("Any", ASGIConnection).get_session_id(connection)  # a request class may override it
        return sid

    async def load_from_connection(self, connection: AnyConnection) -> dict[str, Any]:
        """Return a copy of the session's data."""
        exchange = self._exchange(connection)
        try:
            await exchange.load(required=True)
            return dict(exchange.session)
        finally:
            await exchange.finish()

    async def store_in_message(self, scope_session: object, message: Message, connection: AnyConnection) -> None:
        """Replace the session's data, or end the session for None and Empty; add its headers to the message."""
        exchange = self._exchange(connection)
        headers = MutableScopeHeaders.from_message(message).headers
        try:
            await exchange.load(required=True)
            await replace_data(exchange.session, scope_session)
            added = await exchange.commit(int(cast("Any", message)["status"]))
            headers[:] = exchange.revise(headers, added)
        finally:
            await exchange.finish()

    def _exchange(self, connection: AnyConnection) -> Exchange:
        scope: dict[str, Any] = {**connection.scope}
        if not scope["headers"]:  # TestClient's connections have cookies, but no headers
            pairs = [f"{name}={value}".encode() for name, value in connection.cookies.items()]
            scope["headers"] = [(b"cookie", b"; ".join(pairs))]
        return self.config.store.exchange(AsgiView(scope, cast("Any", connection.receive), scope["method"]))


class SessionBackendConfig(BaseBackendConfig[SessionBackend]):
    """The store's settings under Litestar's names, for `SessionAuth`, `TestClient` and single layers.

    `exclude` is one or more patterns for paths without sessions. `exclude_opt_key` is the key in
    the `opt` of routes without sessions. `key` is the cookie's name.

    Raises:
        ConfigError: `store` is not a SessionStore, or a pattern is empty.
    """

    _backend_class = SessionBackend

    def __init__(
        self, store: SessionStore, *, exclude: str | list[str] | None = None, exclude_opt_key: str = "skip_session"
    ) -> None:
        check_store(store, type(self).__name__)
        if "" in ([exclude] if isinstance(exclude, str) else exclude or ()):
            raise ConfigError('exclude="" is a pattern that excludes every path; use None to exclude none')
        config = store.config
        places = list(flatten(config.extractor))
        self.store = store
        # Litestar joins the patterns, and an empty list becomes a pattern that matches every path.
        self.exclude: str | list[str] | None = exclude or None
        self.exclude_opt_key = exclude_opt_key
        self.key: str = next((place.key for place in places if place.source is Source.COOKIE), places[0].key)
        self.max_age: int = round((config.absolute_timeout or config.idle_timeout).total_seconds())
        self.path: str = config.cookie_path
        self.domain: str | None = config.cookie_domain
        self.secure: bool = config.cookie_secure
        self.httponly: bool = config.cookie_http_only
        self.samesite: Literal["lax", "strict", "none"] = config.cookie_same_site

    def __deepcopy__(self, memo: object) -> "SessionBackendConfig":
        return self

    @property
    def middleware(self) -> DefineMiddleware:
        """The middleware for a single layer; SessionPlugin installs it for the whole application."""
        return DefineMiddleware(SessionMiddleware, backend=SessionBackend(self))
