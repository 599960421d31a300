"""Functions that create the state of a session at its first use: a request that never uses it needs none."""

from collections.abc import Callable
from typing import Never, TypeAlias

from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory

__all__ = ["StateFactory", "raising", "released_state"]

StateFactory: TypeAlias = Callable[[], SessionState]
"""Returns the state of a session, or raises the error that makes the session unusable."""


def raising(unusable: ErrorFactory) -> Callable[[], Never]:
    """Return a factory that always raises."""

    def refuse() -> Never:
        raise unusable()

    return refuse


def released_state(make_state: StateFactory) -> StateFactory:
    """Return a factory of read-only states, for a session that was released before its first use."""

    def make_released() -> SessionState:
        state = make_state()
        state.release(drop=False)
        return state

    return make_released
