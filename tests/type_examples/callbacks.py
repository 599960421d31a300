"""The functions that a configuration takes: for errors, for events, for requests to leave out, for IDs, for time."""

import logging
import secrets
import time
from datetime import timedelta
from typing import assert_type

from sessioncore import (
    EventKind,
    OwnerLimitReached,
    RequestView,
    SessionConfig,
    SessionError,
    SessionEvent,
    SessionStore,
    audit,
)

logger = logging.getLogger("shop.sessions")


def answer(request: RequestView, error: SessionError) -> tuple[int, str | bytes] | None:
    if isinstance(error, OwnerLimitReached):
        return 409, f"{request.path}: sign out somewhere else first"
    return None  # the default answer


def log_event(event: SessionEvent) -> None:
    assert_type(event.kind, EventKind)
    assert_type(event.handle, str | None)
    logger.info("%s %s at %s", event.kind.value, event.handle or "-", event.at.isoformat())


def is_static(request: RequestView) -> bool:
    return request.path.startswith("/static/")


config = SessionConfig(
    idle_timeout=timedelta(minutes=20), absolute_timeout=None, cookie_same_site="strict", max_sessions_per_owner=3,
    on_owner_limit="refuse", on_error=answer, on_event=log_event, skip=is_static, clock=time.time,
    id_generator=lambda: secrets.token_urlsafe(32),
)  # fmt: skip
store = SessionStore(config)
for finding in audit(config):
    assert_type(finding.fix, str)
