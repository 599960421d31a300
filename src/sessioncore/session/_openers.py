"""What opens a session at its first use, so that a request which leaves its session alone has no state."""

from collections.abc import Callable
from typing import Never, TypeAlias

from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory

__all__ = ["Opener", "barred", "released_after"]

Opener: TypeAlias = Callable[[], SessionState]
"""Returns the state of a session, or raises what bars its use."""


def barred(unusable: ErrorFactory) -> Callable[[], Never]:
    """Return an opener that raises."""

    def refuse() -> Never:
        raise unusable()

    return refuse


def released_after(opener: Opener) -> Opener:
    """Return an opener whose state can only be read, for a session that was released before its first use."""

    def opened() -> SessionState:
        state = opener()
        state.release(drop=False)
        return state

    return opened
