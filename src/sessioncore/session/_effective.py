"""The owner, details and times of a session as its request sees them, with changes that are not stored yet."""

from msgspec import UNSET, Raw

from sessioncore.codec._codec import NO_DETAILS
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._pending import Metadata
from sessioncore.session._settings import CONFIGURED, OwnSettings
from sessioncore.session._state import SessionState

__all__ = ["begun_at", "details_of", "ends_at", "idle_of", "owner_of"]


def _unstored_metadata(state: SessionState) -> list[Metadata]:
    newest_first: list[Metadata] = []
    if state.pending is not None:
        newest_first.append(state.pending.metadata)
    if state.in_flight is not None and state.in_flight.pending is not None:
        newest_first.append(state.in_flight.pending.metadata)
    return newest_first


def _owner_and_details(state: SessionState) -> tuple[str | None, Raw]:
    for metadata in _unstored_metadata(state):
        if metadata.owner is not UNSET:
            return metadata.owner, metadata.details
    return (None, NO_DETAILS) if state.loaded is None else (state.loaded.record.owner, state.loaded.record.details)


def owner_of(state: SessionState) -> str | None:
    """Return the owner; None if there is none."""
    return _owner_and_details(state)[0]


def details_of(state: SessionState) -> Raw:
    """Return the owner's details, encoded."""
    return _owner_and_details(state)[1]


def idle_of(state: SessionState, lifetimes: Lifetimes) -> float:
    """Return the idle timeout in seconds: the session's own, or the configured one."""
    own = _own_settings(state)[0]
    return lifetimes.idle if own is None else own


def _own_settings(state: SessionState) -> OwnSettings:
    record = None if state.loaded is None else state.loaded.record
    own = CONFIGURED if record is None else (record.idle, record.absolute, record.persistent)
    for metadata in reversed(_unstored_metadata(state)):
        own = metadata.settings_after(own)
    return own


def begun_at(state: SessionState, now: float) -> float:
    """Return when the session began, by its last login; `now` if that is not stored yet."""
    return _begin_and_as_of(state, now)[0]


def ends_at(state: SessionState, lifetimes: Lifetimes, now: float) -> float:
    """Return when the session ends if it is not used again."""
    loaded, (idle, absolute, _) = state.loaded, _own_settings(state)
    created_at, as_of = _begin_and_as_of(state, now)
    if loaded is not None and not loaded.renewal_due and not _times_changed(state):
        idle = loaded.ttl
    return as_of + lifetimes.time_left(created_at, idle, absolute, as_of)


def _begin_and_as_of(state: SessionState, now: float) -> tuple[float, float]:
    """Return when the session began, and the time from which the seconds that it has left are counted."""
    if state.loaded is None or any(metadata.login is not None for metadata in _unstored_metadata(state)):
        return now, now
    return state.loaded.record.created_at, state.loaded.as_of


def _times_changed(state: SessionState) -> bool:
    """Return whether a timeout was changed, also by a login, and the change is not stored yet."""
    return any(each.settings.has_timeouts() or each.login is not None for each in _unstored_metadata(state))
