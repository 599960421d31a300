"""For authors of adapters: what to check at setup and per request, and what the methods of an exchange return.

`DONE` is what `load`, `save_late` and `finish` return if nothing must be awaited, and `UNCHANGED` what
`commit` returns if the response needs no `revise` either. Awaiting them is correct as well;
comparing with them is faster.

`docs/adapters/custom.md` lists what an adapter must do.
"""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from collections.abc import Awaitable
from typing import Final

from sessioncore._error_responses import ErrorResponse, close_code, close_reason, find_refusal, says_ended
from sessioncore._errors import ConfigError, SessionError, SessionGone, StorageError, StorageUnavailable
from sessioncore._exchange import UNCHANGED, Exchange
from sessioncore._extras import needs_extra
from sessioncore._store import SessionStore
from sessioncore.http._cross_site import asks_for_websocket
from sessioncore.live._late_watch import LateWatch
from sessioncore.persistence._driver import DONE
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import OnEnd, Watch
from sessioncore.session._session import Session
from sessioncore.session._state import SessionState

__all__ = [
    "DONE", "UNCHANGED", "ErrorResponse", "Watch", "asks_for_websocket", "check_beside", "check_cookie",
    "check_scope_key", "check_store", "check_vacant", "close_code", "close_for_error", "close_reason",
    "log_late_failure", "needs_extra", "says_ended", "warn_if_replaced", "watch_connection",
]  # fmt: skip

_REPLACED: Final = (
    "the session %r of a request was replaced by another library's (%s). What handlers write there is not kept in this "
    "store, and login() and destroy() do not reach it. Remove the other session middleware, or give this store a name "
    "of its own, such as scope_key='account', and use get_session(request, scope_key='account')"
)


def check_store(store: object, caller: str) -> None:
    """Check that `store` is a SessionStore, at setup rather than in the first request; `caller` is for the error text.

    Raises:
        ConfigError: it is a configuration, a storage or something else.
    """
    if not isinstance(store, SessionStore):
        raise ConfigError(
            f"{caller} takes a SessionStore, not {type(store).__name__}; pass SessionStore(SessionConfig(storage=...))"
        )


def check_scope_key(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Return whether `known` is the same store as `store`, with the same scope key; both serve one request.

    Raises:
        ConfigError: it is the same store with another scope key, or another one with the same cookie or header.
    """
    if known is not store:
        _check_names(known, store)
    if known is store and known_key != scope_key:
        raise ConfigError(
            f"one store has both scope_key={known_key!r} and scope_key={scope_key!r} and would send one cookie for two "
            "sessions; use one scope_key, or create a second SessionStore with its own cookie name and key_prefix"
        )
    return known is store


def check_beside(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Do what `check_scope_key` does, and check that two stores of one application have different scope keys.

    Raises:
        ConfigError: one store has two scope keys, or two stores have the same one or the same cookie or header.
    """
    if known is not store and known_key == scope_key:
        raise ConfigError(
            f"this application has a store for scope_key={scope_key!r} already; give the second one another scope_key"
        )
    return check_scope_key(known, known_key, store, scope_key)


def _check_names(known: SessionStore, store: SessionStore) -> None:
    """Check that two stores write no cookie and no header of the same name, whatever paths and domains they have."""
    one, other = known._persistence.context.id_headers, store._persistence.context.id_headers
    if cookies := one.cookie_names & other.cookie_names:
        name = min(cookies)
        raise ConfigError(
            f"two stores use the cookie {name!r}, of which a browser keeps one value: the second session would be lost "
            f"on the next request; give one of them another: SessionConfig(extractor=from_cookie({name + '_2'!r}), "
            "key_prefix=...)"
        )
    if headers := set(one.names).intersection(other.names):
        name = min(headers)
        raise ConfigError(
            f"two stores use the header {name!r}, and a client would send one ID for both; give one of them another: "
            f"SessionConfig(extractor=from_header({name + '-2'!r}), key_prefix=...)"
        )


def check_cookie(store: SessionStore, cookie: object, theirs: str) -> None:
    """Check that `store` does not write the cookie of another library's sessions; `theirs` is for the error text.

    Raises:
        ConfigError: it does. The other library would take an ID of ours for its own, and keep its record under it.
    """
    if cookie in store._persistence.context.id_headers.cookie_names:
        raise ConfigError(
            f"{theirs} has the cookie {cookie!r}, too, and one would overwrite the other; give one of them another: "
            "SessionConfig(extractor=from_cookie(...))"
        )


def check_vacant(value: object, scope_key: str) -> None:
    """Check what a request has under `scope_key` before this store serves it.

    Raises:
        ConfigError: it is a session of another library, whose middleware is outside this one.
    """
    if value is not None and not isinstance(value, Session):
        raise ConfigError(
            f"another library's middleware outside of this one has set the session {scope_key!r} of this request "
            f"({_type_name(value)}), and would get ours in its place; remove it, or give this store a name of its "
            "own: scope_key='account'"
        )


def warn_if_replaced(store: SessionStore, scope_key: str, value: object) -> None:
    """Log, once per store, if a request no longer has this store's session under `scope_key`."""
    if value is not None and not isinstance(value, Session):
        store._persistence.context.warnings.warn(_REPLACED, scope_key, _type_name(value))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def close_for_error(exchange: Exchange, error: BaseException) -> int | None:
    """Return `close_code` for an error that a handler has raised after its handshake; an outage is logged."""
    _log_closing(exchange, error)
    return close_code(error)


def _log_closing(exchange: Exchange, error: BaseException) -> None:
    """Log that a WebSocket is closed because the storage is down; the other reasons are no failures."""
    refusal = find_refusal(error)
    if isinstance(refusal, StorageUnavailable):
        exchange._persistence.context.health.report("a WebSocket was closed with code 1013", refusal)


def log_late_failure(exchange: Exchange, error: BaseException) -> bool:
    """Log an error that came after the response began; return False if it must be raised again.

    After True, raise nothing and break the response off, unless it is complete: the storage has
    failed, the session was ended, or another site made the request. During an outage the log has
    one traceback for all of these errors, where a server would write one for each.
    """
    refusal = find_refusal(error)
    if isinstance(refusal, StorageError):
        exchange._persistence.context.health.report("a request failed after its response began", refusal)
    return refusal is not None


def watch_connection(exchange: Exchange, on_end: OnEnd) -> Watch | None:
    """Call `on_end` when the session of an open connection ends; return None if there is none that could end.

    For WebSockets after their handshake, and for event streams after their headers. If the handler has not used the
    session yet, the watch begins when it does. Call `stop()` of the result when the connection ends, and
    `message_received()` for each message from the client. If `on_end` returns an awaitable, it is
    awaited in the background; `close_code` returns the code with which to close a WebSocket for
    the error that `on_end` gets. Changes that are not stored when the session ends are dropped.
    """
    session, live = exchange.session, exchange._persistence.live
    if not session.store.config.end_connections:
        return None

    def end(error: SessionError) -> Awaitable[None] | None:
        if isinstance(error, SessionGone):
            exchange._drop_late_changes()
        _log_closing(exchange, error)
        return on_end(error)

    def begin(state: SessionState, known: Loaded) -> Watch:
        return live.watch(state, end, known)

    if not session.accessed:
        late = LateWatch(begin)
        session._call_at_late_use(late.on_use())
        return late
    state = session._get_state()
    known = state.loaded or state.former
    return begin(state, known) if isinstance(known, Loaded) else None
