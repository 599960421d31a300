"""One open connection, or one `alive` block, whose session is watched."""

from collections.abc import Callable
from math import inf

from msgspec import Struct

from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Moved, Reply
from sessioncore.persistence._load_answers import interpret_load
from sessioncore.persistence._machine import check_fields
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._lifecycle import ENDED
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import OnEnd
from sessioncore.session._state import SessionState

__all__ = ["SessionWatch"]


class SessionWatch(Opaque, Struct, eq=False, weakref=True):
    """The session of one open connection.

    The session is watched under its current key: the one that the request knows, or, if another
    request has moved it, the new one.
    """

    context: StoreContext
    state: SessionState
    on_end: OnEnd
    base: Loaded  # the record as this request loaded or stored it last
    key: str  # the storage key that is watched
    stop_watching: Callable[["SessionWatch"], object]  # a method of the task
    renew: Callable[["SessionWatch"], object]  # a method of the task
    ends_at: float = inf  # when the session ends unless it is renewed, by the monotonic clock
    alarm: float = inf  # when the task looks at `ends_at`; infinite: no alarm is set
    given_up: bool = False  # look-ups failed for too long: the connection will be closed, unless one succeeds before
    renewing: bool = False
    passed: frozenset[str] = frozenset()  # the keys that the session had before

    @property
    def ended_by_itself(self) -> bool:
        """Whether the request itself has ended the session, even if it has begun another one since."""
        loaded = self.state.loaded
        return self.state.phase is ENDED if loaded is None else loaded.origin != self.base.origin

    def rebase(self) -> str | None:
        """Take over what the request itself has just stored; return the key to watch if that is another one."""
        before, loaded = self.base, self.state.loaded
        if loaded is None or loaded is before:
            return None
        self.base = loaded
        return None if loaded.handle == before.handle else self.context.config.key_prefix + loaded.handle

    def judge(self, answer: Reply) -> Loaded | Moved | None:
        """Return the record of the session, or where the session has moved, or None if it was ended.

        If its owner is not the one that the request knows, it is another session: another user, who
        did not open this connection, has logged in since.

        Raises:
            StorageError: the storage contract does not allow this answer.
        """
        if isinstance(answer, Moved):
            check_fields(self.context.config.storage, "watch", answer)
            return None if answer.key in {self.key, *self.passed} else answer  # no move leads back, but damage may
        prefix, owner, unknown = self.context.config.key_prefix, self.base.record.owner, self.state.in_flight
        found = interpret_load(self.context, "", self.key.removeprefix(prefix), answer, counts_as_use=False)
        if unknown is not None and unknown.new_id is not None:  # the request's own move, whose reply was lost
            if self.key != prefix + unknown.handle:
                return found if isinstance(found, Loaded) else Moved(prefix + unknown.handle)
            owner = unknown.record.owner
        return found if isinstance(found, Loaded) and found.record.owner == owner else None

    def follow(self, key: str) -> None:
        """Watch another key, to which the session has moved."""
        self.passed |= {self.key}
        self.key = key

    def set_end(self, ends: float) -> None:
        """Note when the session ends unless it is renewed."""
        self.ends_at = ends

    def set_given_up(self, given_up: bool) -> None:
        """Note whether the connection is about to be closed, because look-ups were unanswered for too long."""
        self.given_up = given_up

    def set_alarm(self, at: float) -> None:
        """Note when the task looks at `ends_at`."""
        self.alarm = at

    def message_received(self) -> None:
        """Count a message from the client as a use: the idle clock is renewed if that is due.

        A session that another request has moved is not renewed: the connection has a former ID.
        """
        loaded, now = self.state.loaded, self.context.config.clock()
        if loaded is not None and not self.renewing and self.context.lifetimes.is_renewal_due(loaded, now):
            self.renewing = True
            self.renew(self)

    def set_renewed(self, ttl: float | None) -> None:
        """Note the outcome of a renewal: the new time to live, or None if there was none."""
        self.renewing = False
        if ttl is not None:
            self.state.apply_renewed(ttl, self.context.config.clock())

    def stop(self) -> None:
        """Stop watching the session."""
        self.stop_watching(self)
