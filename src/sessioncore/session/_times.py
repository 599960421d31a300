"""The times of a session: when it began, when it ends, and how long the browser keeps its cookie."""

from datetime import UTC, datetime, timedelta

from sessioncore._config import is_duration
from sessioncore._errors import ConfigError
from sessioncore.session._effective import absolute_of, idle_of, restarted, times_changed
from sessioncore.session._mapping import SessionMapping
from sessioncore.session._settings import Settings
from sessioncore.session._state import SessionState

__all__ = ["SessionTimes"]


class SessionTimes(SessionMapping):
    """The part of a `Session` that returns and sets its times.

    The settings are stored with the session, and if the response has not started, it sends the
    cookie accordingly. `regenerate` keeps them; `login` and `reset` go back to the configuration,
    except for what the same request has set, before or after them.
    """

    __slots__ = ()

    @property
    def created_at(self) -> datetime:
        """When the session began, by its last login; now if that is not stored yet. An aware UTC datetime."""
        return datetime.fromtimestamp(self._begin_and_as_of(self._get_state())[0], UTC)

    @property
    def expires_at(self) -> datetime:
        """When the session ends if it is not used again; an aware UTC datetime."""
        state = self._get_state()
        loaded, idle = state.loaded, idle_of(state)
        created_at, now = self._begin_and_as_of(state)
        if loaded is not None and not loaded.renewal_due and not times_changed(state):
            idle = loaded.ttl
        seconds = self._persistence.lifetimes.time_left(created_at, idle, absolute_of(state), now)
        return datetime.fromtimestamp(now + seconds, UTC)

    def _begin_and_as_of(self, state: SessionState) -> tuple[float, float]:
        """Return when the session began, and the time for which what is known of it holds."""
        loaded = state.loaded
        if loaded is None or restarted(state):
            now = self._persistence.config.clock()
            return now, now
        return loaded.record.created_at, loaded.as_of

    @property
    def idle_timeout(self) -> timedelta:
        """How long the session lives without being used."""
        own = idle_of(self._get_state())
        return timedelta(seconds=self._persistence.lifetimes.idle if own is None else own)

    def set_idle_timeout(self, timeout: timedelta | None) -> None:
        """Give this session its own idle timeout; None: use the configured one.

        The absolute deadline still ends it. If the timeout reaches beyond that, a `capped` event
        is sent.

        Raises:
            ConfigError: `timeout` is not a timedelta above zero.
        """
        self._get_state().change_settings(Settings(idle=_seconds("set_idle_timeout", timeout)))

    def set_absolute_timeout(self, timeout: timedelta | None) -> None:
        """Set how long after its last login this session ends, however much it is used; None: as configured.

        It may be longer than the configured one. A session that is older ends with this request.

        Raises:
            ConfigError: `timeout` is not a timedelta above zero.
        """
        self._get_state().change_settings(Settings(absolute=_seconds("set_absolute_timeout", timeout)))

    def set_persistent(self, persistent: bool | None) -> None:
        """Let the browser keep this session's cookie when it closes (True) or drop it (False); None: as configured.

        Raises:
            ConfigError: `persistent` is neither a bool nor None.
        """
        if persistent is not None and type(persistent) is not bool:
            raise ConfigError("set_persistent() takes True, False, or None for what cookie_session_only says")
        self._get_state().change_settings(Settings(persistent=persistent))


def _seconds(method: str, timeout: object) -> float | None:
    if timeout is None:
        return None
    if not is_duration(timeout):
        raise ConfigError(f"{method}() takes a timedelta above zero, at most 100 years, or None")
    return timeout.total_seconds()
