"""Responses that are open: WebSockets and streams, which end with their session, and errors that come too late."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from collections.abc import Awaitable

from sessioncore._error_responses import close_code, find_refusal
from sessioncore._errors import SessionError, SessionGone, StorageError, StorageUnavailable
from sessioncore._exchange import Exchange
from sessioncore.live._late_watch import LateWatch
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import OnEnd, Watch
from sessioncore.session._state import SessionState

__all__ = ["close_for_error", "has_replaced_id", "log_late_failure", "watch_connection"]


def has_replaced_id(exchange: Exchange) -> bool:
    """Return whether the ID that the client has sent leads nowhere, because this request gave the session another."""
    state, lookup = exchange.session._state, exchange._lookup
    if lookup is None or state is None or state.loaded is None:
        return False
    sent = lookup.session_id  # empty: it leads to no session
    return bool(sent) and sent != state.loaded.session_id


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
