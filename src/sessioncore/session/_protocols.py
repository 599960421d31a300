"""`Persistence`, the protocol by which a session reaches the storage; `StorePersistence` implements it.

`Live` is the part of it that reports when a session ends; `LiveSessions` implements it.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from sessioncore._config import SessionConfig
from sessioncore._errors import SessionError
from sessioncore.codec._codec import Codec
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState

__all__ = ["Live", "OnEnd", "Persistence", "Watch"]

OnEnd: TypeAlias = Callable[[SessionError], Awaitable[None] | None]
"""Called once, with SessionGone or StorageUnavailable; what it returns is awaited in the background."""


class Watch(Protocol):
    """A watch on one session."""

    def stop(self) -> None:
        """Stop watching the session."""
        ...

    def message_received(self) -> None:
        """Count a message from the client as a use of the session, which renews its idle clock when that is due."""
        ...


class Live(Protocol):
    """Notifies watchers when sessions end."""

    def watch(self, state: SessionState, on_end: OnEnd, known: Loaded | None = None) -> Watch:
        """Call `on_end` when the session ends; raise SessionGone if nothing is stored and `known` is None."""
        ...

    def close(self) -> None:
        """Stop notifying watchers in this event loop."""
        ...


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

    @property
    def live(self) -> Live:
        """The object that notifies watchers when this store's sessions end."""
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
