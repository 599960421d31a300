"""The states that a session can have when the request has just loaded it."""

from sessioncore.codec._codec import Codec
from sessioncore.session._error_factories import ErrorFactory
from sessioncore.session._lifecycle import LIVE, STALE, WITHHELD
from sessioncore.session._limits import NO_LIMITS, Limits
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState
from sessioncore.session._values import Values

__all__ = ["fresh_state", "live_state", "refused_state", "rejected_state", "stale_state", "withheld_state"]


def fresh_state(codec: Codec, limits: Limits = NO_LIMITS) -> SessionState:
    """Return the state of a session that is not stored yet."""
    return SessionState(Values(codec, {}), limits=limits)


def rejected_state(session_id: str, codec: Codec) -> SessionState:
    """Return the state of a request with an ID whose record is corrupt or has expired: the session is fresh."""
    return SessionState(Values(codec, {}), former=session_id)


def live_state(loaded: Loaded, codec: Codec) -> SessionState:
    """Return the state of a stored session; values stay encoded until they are read."""
    return SessionState(Values(codec, loaded.record.data.copy()), LIVE, loaded)


def stale_state(former_id: str | None, codec: Codec) -> SessionState:
    """Return the state of a request with an ID that was replaced, or with two different ones (None)."""
    return SessionState(Values(codec, {}), STALE, former=former_id)


def withheld_state(codec: Codec) -> SessionState:
    """Return the state of a trusted site's request, to which the browser did not add the cookie."""
    return SessionState(Values(codec, {}), WITHHELD)


def refused_state(refusal: ErrorFactory, codec: Codec) -> SessionState:
    """Return the state of a request that may read that it has no session, and may do nothing else."""
    return SessionState(Values(codec, {}), limits=Limits(write=refusal))
