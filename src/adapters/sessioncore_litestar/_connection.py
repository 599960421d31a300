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

from sessioncore import ConfigError, Session, SessionNotLoaded
from sessioncore_asgi._exchanges import exchange_of

__all__ = [
    "AnyConnection", "apply_assignment", "get_session", "is_mount", "note_clearing", "replace_data", "session_id_of",
    "with_session",
]  # fmt: skip

AnyConnection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


async def get_session(connection: AnyConnection | Scope, *, scope_key: str = "session") -> Session:
    """Return the session of a request, WebSocket or scope; load it if it is not loaded yet.

    Raises:
        SessionNotLoaded: there is no SessionPlugin with this `scope_key`, or this request is excluded or skipped.
        StorageUnavailable: the session could not be loaded, or could not be ended after `clear_session()`.
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
    if scope_key == "session" and _was_cleared(scope_dict):
        note_clearing(scope_dict)
        if value is not Empty:  # `set_session` was called as well, so the value begins another session
            await session.destroy()
    await replace_data(session, value)
    return session


def note_clearing(scope: dict[str, Any]) -> None:
    """Make a call of `clear_session` recognisable, even if `set_session` follows."""
    _state_of(scope).session_id = None  # Empty, which `clear_session` puts there, is Litestar's default


def _was_cleared(scope: dict[str, Any]) -> bool:
    return _state_of(scope).session_id is Empty


def _state_of(scope: dict[str, Any]) -> Any:
    return ScopeState.from_scope(cast("Any", scope))


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
    return getattr(cast("dict[str, Any]", scope).get("route_handler"), "is_mount", False)


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
    """Return the class of a connection with our `session` and `get_session_id`, unless it has its own."""
    ours: dict[str, Any] = {"session": property(_session_in), "get_session_id": session_id_of}
    added = {name: one for name, one in ours.items() if getattr(given, name) is getattr(ASGIConnection, name)}
    if not added:
        return given
    kept = {name: getattr(given, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(given.__name__, (given,), {**kept, "__slots__": (), **added})


def _session_in(connection: AnyConnection) -> dict[str, Any]:
    """Return what Litestar's own property returns: the session, or what `set_session` was given.

    Raises:
        SessionNotLoaded: there is none; Litestar would advise to install a middleware.
    """
    scope = cast("dict[str, Any]", connection.scope)
    if "session" not in scope:
        raise _no_session("session")
    return cast("dict[str, Any]", scope["session"])


def session_id_of(connection: AnyConnection) -> str | None:
    """Return the current ID; None without a session, and after `clear_session()`."""
    # Computed on demand, because reading the ID of a fresh session generates one.
    scope = cast("dict[str, Any]", connection.scope)
    exchange, value = exchange_of(scope, "session"), scope.get("session")
    if exchange is None:  # the session is one of Litestar's own, if there is one
        theirs: str | None = cast("Any", ASGIConnection).get_session_id(connection)
        return theirs
    if value is None or value is Empty:  # by set_session(None) or clear_session()
        return None
    session = exchange.session
    return None if value is not session and _was_cleared(scope) else session.id
