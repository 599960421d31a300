"""`Persistence`, the protocol by which a session reaches the storage; `StorePersistence` implements it."""

from collections.abc import Awaitable
from typing import Protocol

from sessioncore._config import SessionConfig
from sessioncore._errors import SessionError
from sessioncore.codec._codec import Codec
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._state import SessionState

__all__ = ["Persistence"]


class Persistence(Protocol):
    """What a session needs to be stored and ended."""

    @property
    def config(self) -> SessionConfig:
        """The store's configuration."""
        ...

    @property
    def lifetimes(self) -> Lifetimes:
        """The store's timeouts."""
        ...

    @property
    def codec(self) -> Codec:
        """The store's codec."""
        ...

    def new_id(self) -> str:
        """Return a new ID."""
        ...

    def commit(self, state: SessionState, *, explicit: bool) -> Awaitable[None]:
        """Store the changes of the session; with `explicit`, raise SessionGone if the record is gone."""
        ...

    def reload(self, state: SessionState) -> Awaitable[None]:
        """Take over what others have stored meanwhile; raise SessionGone if the record is gone."""
        ...

    def end(self, state: SessionState) -> Awaitable[None]:
        """Delete the stored record now."""
        ...

    def report_corrupt(self, state: SessionState, error: SessionError) -> None:
        """Send the event for a value that cannot be read."""
        ...
