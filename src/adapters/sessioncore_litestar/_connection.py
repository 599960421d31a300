"""Gets the session of a Litestar connection, and applies `set_session` and `clear_session`.

These two put a plain value into the scope instead of the session. This module then replaces
the session's data with that value, or ends the session.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from litestar.connection import ASGIConnection
from litestar.types import Empty, Scope
from litestar.utils.scope.state import ScopeState
from msgspec import Struct, structs

from sessioncore import ConfigError, Exchange, Session, SessionNotLoaded
from sessioncore_asgi._exchanges import exchange_of

__all__ = [
    "AnyConnection", "apply_assignment", "get_session", "is_mount", "provide_id", "replace_data", "with_session",
]  # fmt: skip

AnyConnection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


async def get_session(connection: AnyConnection | Scope, *, scope_key: str = "session") -> Session:
    """Return the session of a request, WebSocket or scope; load it if it is not loaded yet.

    Raises:
        SessionNotLoaded: there is no SessionPlugin with this `scope_key`, or this request is excluded or skipped.
        StorageUnavailable: the session could not be loaded, or could not be ended after `clear_session()`.
        CrossSiteRequest: another site made this request with the session's cookie.
    """
    return await apply_assignment(connection.scope if isinstance(connection, ASGIConnection) else connection, scope_key)


async def apply_assignment(scope: Scope, scope_key: str) -> Session:
    """Apply `set_session` or `clear_session`, if one was called, and return the session."""
    scope_dict = cast("dict[str, Any]", scope)
    exchange = exchange_of(scope_dict, scope_key)
    if exchange is None:
        raise _no_session(scope_key)
    await exchange.load(required=True)
    session = exchange.session
    value: object = scope_dict.get(scope_key)
    if value is session or is_mount(scope):
        return session
    scope_dict[scope_key] = session
    if scope_key == "session":
        state = ScopeState.from_scope(scope)
        # If `set_session` was called after `clear_session`, its value begins another session.
        if isinstance(state, _IdState) and state.forget_clearing() and value is not Empty:
            await session.destroy()
    await replace_data(session, value)
    return session


class _IdState(ScopeState):
    """Litestar's state of a connection, whose `session_id` is what `get_session_id` returns.

    The class of the state is changed, not that of the connection, because a request class can be set where this
    package does not see it. The ID is read on demand, because reading the ID of a fresh session generates one.
    """

    __slots__ = ()  # the layout of the base class, because `provide_id` changes the class of an existing state

    def begin(self, exchange: Exchange | None) -> None:
        self._compat_ns.update(sessioncore_exchange=exchange, sessioncore_was_cleared=False)

    @property
    def session_id(self) -> str | None:
        exchange: Exchange = self._compat_ns["sessioncore_exchange"]
        return None if self._compat_ns["sessioncore_was_cleared"] else exchange.session.id

    @session_id.setter
    def session_id(self, value: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._compat_ns["sessioncore_was_cleared"] = value is Empty  # `clear_session` sets it to Empty

    def forget_clearing(self) -> bool:
        """Return whether `clear_session` was called since the last time."""
        was_cleared = self._compat_ns["sessioncore_was_cleared"] is True
        self._compat_ns["sessioncore_was_cleared"] = False
        return was_cleared


def provide_id(scope: Scope) -> None:
    """Let `get_session_id` return the ID of the session, and None after `clear_session`, whatever the request class."""
    state: Any = ScopeState.from_scope(scope)
    state.__class__ = _IdState
    found: Any = scope  # each request pays for a call of `cast`
    state.begin(exchange_of(found, "session"))


def _no_session(scope_key: str) -> SessionNotLoaded:
    return SessionNotLoaded(
        f"this request has no session {scope_key!r}: pass plugins=[SessionPlugin(store)] to Litestar, and check "
        "whether this route is excluded; without a route (404, 405), Litestar runs no middleware"
    )


async def replace_data(session: Session, value: object) -> None:
    """Replace the session's data with `value`, or end the session for None and Empty."""
    if value is None or value is Empty:
        await session.destroy()
    else:
        data = _to_dict(value)
        for name in session.keys() - data.keys():
            del session[name]
        session.update(data)


def is_mount(scope: Scope) -> bool:
    """Return whether the route is a mounted ASGI application, whose session middleware may use scope["session"]."""
    found: Any = scope
    return getattr(found.get("route_handler"), "is_mount", False)


def _to_dict(value: object) -> dict[str, Any]:
    """Return the keys and values of an argument of `set_session`; values are not converted."""
    if isinstance(value, Mapping):
        data: dict[Any, Any] = {**value}
    elif isinstance(value, Struct):
        data = structs.asdict(value)
    elif dataclasses.is_dataclass(value):
        data = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "__attrs_attrs__"):
        data = {field.name: getattr(value, field.name) for field in cast("Any", value).__attrs_attrs__}
    elif hasattr(type(value), "model_fields"):  # pydantic
        data = {name: getattr(value, name) for name in cast("Any", type(value)).model_fields}
    else:
        raise ConfigError(f"set_session() takes a mapping, Struct, dataclass or model, not {type(value).__name__}")
    if not all(isinstance(name, str) for name in data):
        raise ConfigError("set_session() takes str keys only")
    return data


def with_session(given: type[Any]) -> type[Any]:
    """Return the class of a connection with our `session`, unless it has its own."""
    if given.session is not ASGIConnection.session:
        return given
    kept = {name: getattr(given, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(given.__name__, (given,), {**kept, "__slots__": (), "session": property(_session_in)})


def _session_in(connection: AnyConnection) -> dict[str, Any]:
    """Return what Litestar's own property returns: the session, or what `set_session` was given.

    Raises:
        SessionNotLoaded: there is none; Litestar would advise to install a middleware.
    """
    scope: Any = connection.scope
    if "session" not in scope:
        raise _no_session("session")
    session: dict[str, Any] = scope["session"]
    return session
