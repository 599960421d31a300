"""The way from a session's verbs to the storage, as `persistence` implements it."""

from collections.abc import Awaitable
from typing import Protocol

from sessioncore._config import SessionConfig
from sessioncore._errors import SessionError
from sessioncore.codec._codec import Codec
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._state import SessionState

__all__ = ["Persistence"]


class Persistence(Protocol):
    """What the verbs of a session ask for."""

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
        """Store what the session changes; `explicit`: SessionGone is raised, not swallowed."""
        ...

    def end(self, state: SessionState) -> Awaitable[None]:
        """End the stored record, at once."""
        ...

    def report_corrupt(self, state: SessionState, error: SessionError) -> None:
        """Send the event of a value that cannot be read."""
        ...
