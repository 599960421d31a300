"""The configuration of a store. Every value is checked when it is built.

The defaults are for production. For plain http on a developer's machine, use
`SessionConfig.development()`; nothing in a request relaxes a setting.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal, Self, TypeAlias, TypeGuard, get_args, get_origin

from sessioncore._callables import is_sync_callable
from sessioncore._errors import ConfigError, SessionError
from sessioncore._events import SessionEvent, StorageListener
from sessioncore._storage_protocol import CALLS, Storage, capabilities_of
from sessioncore.codec._record import YEAR_9999
from sessioncore.http._cookie_checks import check_cookie, check_cookie_place, check_former_cookies
from sessioncore.http._cookies import CookieSettings
from sessioncore.http._cross_site import parse_trusted_origins
from sessioncore.http._extractors import Extractor, Source, flatten, from_cookie, keys_of
from sessioncore.http._ids import is_id, new_id
from sessioncore.http._names import check_header_name, is_token
from sessioncore.http._request_view import RequestView
from sessioncore.storage.memory import MemoryStorage

__all__ = ["SessionConfig", "cookie_settings", "id_generator", "is_duration", "listeners", "stale_id_window"]

_MAX_DURATION = timedelta(days=36500)

Listener: TypeAlias = Callable[[SessionEvent], None]
ErrorAnswer: TypeAlias = tuple[int, str | bytes] | tuple[int, str | bytes, Mapping[str, str]]
"""What `on_error` returns: status and body, and perhaps headers."""


class _DerivedInterval(timedelta):
    """Marks a derived touch_interval, so that `dataclasses.replace(config, idle_timeout=...)` derives it again."""


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """All settings of a store.

    Raises:
        ConfigError: a value is not valid; the text says how to fix it.
    """

    storage: Storage = field(default_factory=MemoryStorage)
    extractor: Extractor = field(default_factory=from_cookie)
    id_generator: Callable[[], str] = new_id
    idle_timeout: timedelta = timedelta(minutes=30)  # ASVS 7.3.1
    absolute_timeout: timedelta | None = timedelta(hours=24)  # ASVS 7.3.2, NIST 800-63B-4 AAL2
    touch_interval: timedelta = None  # type: ignore[assignment]  # filled in: min(60 s, idle_timeout / 10)
    cookie_secure: bool = True
    cookie_http_only: bool = True
    cookie_same_site: Literal["lax", "strict", "none"] = "lax"
    cookie_path: str = "/"
    cookie_domain: str | None = None
    cookie_session_only: bool = False
    cookie_partitioned: bool = False
    former_cookies: Collection[tuple[str, str | None]] = field(default=(), hash=False)  # where the cookie was before
    key_prefix: str = "session:"
    max_size: int = 65536  # bytes of one encoded record
    storage_timeout: timedelta = timedelta(seconds=5)
    max_sessions_per_owner: int | None = None
    on_owner_limit: Literal["evict_oldest", "refuse"] = "evict_oldest"
    skip: Callable[[RequestView], bool] | None = None
    on_error: Callable[[RequestView, SessionError], ErrorAnswer | None] | None = None
    cross_site: Literal["refuse", "report", "allow"] = "refuse"
    trusted_origins: Collection[str] = field(default=(), hash=False)
    stale_id_window: timedelta | None = None  # None: 20 s, or twice the time in which an end is noticed if that is more
    end_connections: bool = True  # close WebSockets and event streams whose session was ended
    watch_interval: timedelta = timedelta(seconds=5)  # the longest that an end stays unnoticed by open connections
    builtin_subclasses: Literal["refuse", "flatten"] = "refuse"  # what to do with an unregistered one
    on_event: Listener | Sequence[Listener] | None = field(default=None, hash=False)
    save_on_server_error: bool = False
    clock: Callable[[], float] = time.time  # seconds since the epoch; for the absolute deadline

    def __post_init__(self) -> None:
        """Check every field."""
        _check_times(self)
        if self.touch_interval is None or type(self.touch_interval) is _DerivedInterval:  # pyright: ignore[reportUnnecessaryComparison]  # the default, see above
            object.__setattr__(
                self, "touch_interval", _DerivedInterval(seconds=min(60, self.idle_timeout.total_seconds() / 10))
            )
        _check_touch(self.touch_interval, self.idle_timeout)
        _check_choices(self)
        _check_count("max_size", self.max_size)
        if self.max_sessions_per_owner is not None:
            _check_count("max_sessions_per_owner", self.max_sessions_per_owner)
        _check_prefix(self.key_prefix)
        parse_trusted_origins(self.trusted_origins)
        _check_callables(self)
        _check_storage(self.storage)
        _check_extractor(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing in it changes, and what it refers to belongs to this process

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError(
            "SessionConfig cannot be pickled, because its storage belongs to this process; build it in each process, "
            "with the same settings"
        )

    @classmethod
    def development(cls, **changes: Any) -> Self:
        """Return a configuration for plain http: cookie `session_id`, not Secure. Never deploy it."""
        settings: dict[str, Any] = {"extractor": from_cookie("session_id"), "cookie_secure": False, **changes}
        return cls(**settings)


def cookie_settings(config: SessionConfig) -> CookieSettings:
    """Return the cookie's settings as one value."""
    return CookieSettings(
        path=config.cookie_path,
        domain=config.cookie_domain,
        secure=config.cookie_secure,
        http_only=config.cookie_http_only,
        same_site=config.cookie_same_site,
        partitioned=config.cookie_partitioned,
    )


def listeners(config: SessionConfig) -> tuple[Listener, ...]:
    """Return the listeners for events; there may be none."""
    if config.on_event is None:
        return ()
    return (config.on_event,) if callable(config.on_event) else tuple(config.on_event)


def stale_id_window(config: SessionConfig) -> float:
    """Return for how many seconds an ID is remembered after a login or regenerate replaced it."""
    if config.stale_id_window is not None:
        return config.stale_id_window.total_seconds()
    return max(20.0, 2 * (config.watch_interval + config.storage_timeout).total_seconds())


def id_generator(config: SessionConfig) -> Callable[[], str]:
    """Return the configured generator; if it is not the default, one that checks every ID.

    Raises:
        ConfigError: (when the returned function is called) the text is not well-formed as an ID.
    """
    if config.id_generator is new_id:
        return new_id

    def generate() -> str:
        text = config.id_generator()
        if not isinstance(text, str) or not is_id(text):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user's function
            raise ConfigError(
                "id_generator must return 22 to 256 characters of A-Z a-z 0-9 _ - with at least 128 random bits, "
                "such as secrets.token_urlsafe(32)"
            )
        return text

    return generate


def _check_times(config: SessionConfig) -> None:
    _check_duration("idle_timeout", config.idle_timeout, timedelta(minutes=30))
    _check_duration("storage_timeout", config.storage_timeout, timedelta(seconds=5))
    if config.absolute_timeout is not None:
        _check_duration("absolute_timeout", config.absolute_timeout, timedelta(hours=24), "None for no limit")
        if config.absolute_timeout < config.idle_timeout:
            raise ConfigError(
                f"absolute_timeout must be at least idle_timeout, but is {config.absolute_timeout} (the default is one "
                "day); set a longer one, or None for no limit"
            )
    _check_duration("watch_interval", config.watch_interval, timedelta(seconds=5))
    window: Any = config.stale_id_window
    if window is not None and not (isinstance(window, timedelta) and not window):
        _check_duration("stale_id_window", window, timedelta(seconds=20), "timedelta(0) to turn it off")
        shortest = config.watch_interval + config.storage_timeout
        if config.end_connections and window < shortest:
            raise ConfigError(
                f"stale_id_window must be at least watch_interval + storage_timeout, which is {shortest}: an open "
                "connection may need that long to notice that its session has moved; set a longer one, or None, or "
                "shorten these two, or set end_connections=False"
            )


def is_duration(value: object) -> TypeGuard[timedelta]:
    """Return whether `value` is a timedelta above zero, of at most 100 years."""
    return isinstance(value, timedelta) and timedelta() < value <= _MAX_DURATION


def _check_duration(name: str, value: object, example: timedelta, other: str = "") -> None:
    if not is_duration(value):
        choice = f"; or {other}" if other else ""
        raise ConfigError(f"{name} must be a timedelta above zero, at most 100 years, such as {example!r}{choice}")


def _check_touch(interval: object, idle: timedelta) -> None:
    if not isinstance(interval, timedelta) or not timedelta() <= interval < idle:
        raise ConfigError("touch_interval must be a timedelta from zero up to, but not including, idle_timeout")


def _check_choices(config: SessionConfig) -> None:
    """Check the fields whose annotations list their values."""
    for one in fields(config):
        value: object = getattr(config, one.name)
        if one.type is bool and type(value) is not bool:
            raise ConfigError(f"{one.name} must be True or False")
        choices = get_args(one.type) if get_origin(one.type) is Literal else ()
        if choices and not (isinstance(value, str) and value in choices):
            *others, last = map(repr, choices)
            raise ConfigError(f"{one.name} must be {', '.join(others)} or {last}, not {value!r}")


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or not prefix.isprintable() or not 0 < len(prefix) <= 128:
        raise ConfigError(
            "key_prefix must be 1 to 128 printable characters; without one, reset() would end everything in the storage"
        )


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1")


def _check_callables(config: SessionConfig) -> None:
    for name in ("id_generator", "clock"):
        if not is_sync_callable(getattr(config, name)):
            raise ConfigError(f"{name} must be a function that is not async; leave it out for the default")
    try:
        now: Any = config.clock()  # with milliseconds, say, no session would be found again
    except TypeError as exc:
        raise ConfigError("clock must be a function without arguments; leave it out for the default") from exc
    if not isinstance(now, (int, float)) or isinstance(now, bool) or not 0 <= now <= YEAR_9999:
        raise ConfigError("clock must return seconds since the epoch, as time.time does")
    for name in ("skip", "on_error"):
        value: object = getattr(config, name)
        if value is not None and not is_sync_callable(value):
            raise ConfigError(f"{name} must be a function that is not async, or None")
    given: object = config.on_event
    several = callable(given) or isinstance(given, (list, tuple))
    if given is not None and not (several and all(map(_is_listener, listeners(config)))):
        raise ConfigError("on_event must be a function that is not async, a sequence of them, or None")


def _is_listener(listener: object) -> bool:
    functions = (listener, listener.storage_call) if isinstance(listener, StorageListener) else (listener,)
    return all(map(is_sync_callable, functions))


def _check_storage(storage: object) -> None:
    if isinstance(storage, type) or not all(callable(getattr(storage, name, None)) for name in CALLS):
        raise ConfigError(
            "storage must be an object with the methods of sessioncore.Storage, such as MemoryStorage() or "
            "storage_from_url(url)"
        )
    for kind in capabilities_of(storage):
        if missing := [name for name in vars(kind) if not name.startswith("_") and not hasattr(storage, name)]:
            raise ConfigError(
                f"{type(storage).__name__} declares {kind.__name__} in its capabilities, but has no {missing[0]}; see "
                f"sessioncore.storage.{kind.__name__}"
            )


def _check_extractor(config: SessionConfig) -> None:
    parts, settings = _flat_extractors(config.extractor), cookie_settings(config)
    check_cookie_place(settings)
    for part in parts:
        if part.source is Source.COOKIE:
            check_cookie(part.key, settings)
        elif part.source is Source.HEADER:
            check_header_name(part.key)
    names = keys_of(config.extractor, Source.COOKIE)
    former = check_former_cookies(names, config.former_cookies, settings)
    object.__setattr__(config, "former_cookies", former)


def _flat_extractors(extractor: object) -> list[Extractor]:
    if not isinstance(extractor, Extractor):
        raise ConfigError("extractor must be an Extractor, such as from_cookie('__Host-session_id')")
    found = list(flatten(extractor))
    for part in found:
        source: object = part.source
        vary: Any = part.vary  # a str would be taken for its letters
        listed = type(vary) in {tuple, list} and all(map(is_token, vary))
        if not callable(part.extract) or source not in (*Source,) or not listed:
            raise ConfigError("an Extractor needs a function, a Source, and as `vary` a tuple of header names")
    return found
