"""Listeners for `SessionConfig(on_event=...)`: one writes to a log, one records metrics for OpenTelemetry.

No attribute of a metric contains a session, an owner or an ID: each value would be a time series
of its own, and some are secret or personal.
"""

import logging
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from sessioncore._errors import ConfigError
from sessioncore._events import EventKind, SessionEvent, StorageListener, StorageOutcome
from sessioncore._extras import needs_extra

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

__all__ = ["OpenTelemetry", "StorageListener", "log_events"]

_LEVELS: Final = {
    EventKind.AMBIGUOUS: logging.WARNING,
    EventKind.CAPPED: logging.WARNING,
    EventKind.CORRUPT: logging.WARNING,
    EventKind.CROSS_SITE: logging.WARNING,
    EventKind.RENEWED: logging.DEBUG,
    # In an outage there is one for each request, and the store itself logs the outage once.
    EventKind.STORAGE_ERROR: logging.DEBUG,
}
_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Where the buckets of the durations end: from a storage in this process up to one that does not reply."""

_NEAR_CACHE: Final = (
    ("hits", "{load}", "Loads that the near cache answered"),
    ("misses", "{load}", "Loads that the server answered"),
    ("proofs", "{load}", "Loads that waited for proof that the near cache is up to date"),
    ("invalidations", "{record}", "Records dropped because they were changed, or may have been"),
    ("evictions", "{record}", "Records dropped because the near cache was full"),
)


def log_events(logger: logging.Logger) -> Callable[[SessionEvent], None]:
    """Return a listener that logs each event in one line, with its fields in `extra`, for formatters that write JSON.

    The line contains the handle, but not the owner, which may be personal; `extra` has both. The level is
    WARNING for events that you should look at, DEBUG for `renewed` and `storage_error`, otherwise INFO.

    Raises:
        ConfigError: `logger` is not a logger of the standard library; a logger's name is not enough.
    """
    # Anything else would fail at each event, unnoticed, or drop the fields, as a LoggerAdapter does.
    if not isinstance(logger, logging.Logger):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
        raise ConfigError('log_events takes a logger, such as logging.getLogger("shop.sessions")')

    def log_event(event: SessionEvent) -> None:
        level = _LEVELS.get(event.kind, logging.INFO)
        if logger.isEnabledFor(level):
            text = " ".join(part for part in (event.kind.value, event.handle, event.detail) if part)
            extra = {
                "session_event": event.kind.value,
                "session_handle": event.handle,
                "session_owner": event.owner,
                "session_detail": event.detail,
            }
            logger.log(level, "session %s", text, extra=extra)

    return log_event


class OpenTelemetry(StorageListener):
    """A listener that counts events and times storage calls; one may serve several stores.

    It records the metrics `sessioncore.events`, `sessioncore.storage.duration` (seconds), and for a
    storage with a near cache `sessioncore.near_cache.*`. `meter_provider` defaults to the global one.

    Raises:
        ModuleNotFoundError: the extra `otel` is not installed.
    """

    def __init__(self, meter_provider: "MeterProvider | None" = None) -> None:
        with needs_extra("otel"):
            from opentelemetry.metrics import Observation, get_meter  # noqa: PLC0415 - an extra
        meter = get_meter("sessioncore", meter_provider=meter_provider)
        self._events = meter.create_counter("sessioncore.events", "{event}", "What happened to sessions")
        self._durations = meter.create_histogram(
            "sessioncore.storage.duration",
            "s",
            "Duration of the calls of the session storage",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._storages: dict[int, Any] = {}  # by `id`
        self._observation = Observation
        for field, unit, text in _NEAR_CACHE:
            name = f"sessioncore.near_cache.{field}"
            meter.create_observable_counter(name, [self._observing(field)], unit, text)
        size = "sessioncore.near_cache.size"
        meter.create_observable_up_down_counter(
            size, [self._observing("bytes")], "By", "Memory that the near cache takes"
        )
        self._kinds = {kind: {"kind": kind.value} for kind in EventKind}

    def __call__(self, event: SessionEvent) -> None:
        """Count an event."""
        self._events.add(1, self._kinds[event.kind])

    def storage_call(self, operation: str, seconds: float, outcome: StorageOutcome) -> None:
        """Record how long a call took."""
        self._durations.record(seconds, {"operation": operation, "outcome": outcome})

    def attached(self, storage: object) -> None:
        """Remember a storage that may have a near cache."""
        if hasattr(storage, "near_cache_stats"):
            self._storages[id(storage)] = storage

    def _observing(self, field: str) -> "Callable[[CallbackOptions], Generator[Observation]]":
        def observe(_: "CallbackOptions") -> "Generator[Observation]":
            all_stats = [storage.near_cache_stats() for storage in list(self._storages.values())]
            if any(stats.misses for stats in all_stats):  # each record is missed first, so no misses mean no cache
                yield self._observation(sum(getattr(stats, field) for stats in all_stats))

        return observe
