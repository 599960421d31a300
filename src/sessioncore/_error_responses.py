"""What is said when a request fails for want of its session: to the client in general terms, to the log in detail."""

import logging
import operator
from http import HTTPStatus
from typing import Final

from msgspec import Struct

from sessioncore._config import SessionConfig
from sessioncore._errors import OwnerLimitReached, SessionError, StorageUnavailable
from sessioncore.http._extractors import RequestView

__all__ = ["Answer", "answer_to", "goes_astray"]

_logger = logging.getLogger("sessioncore")
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")


class Answer(Struct, frozen=True):
    """The response to send instead of the handler's."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def answer_to(error: SessionError, view: RequestView | None, config: SessionConfig) -> tuple[int, bytes]:
    """Return status and body: what `on_error` makes of it, else 503, 409 or 500 with the usual phrase."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, StorageUnavailable):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    elif isinstance(error, OwnerLimitReached):
        status = HTTPStatus.CONFLICT
    found = _given(error, view, config) or (status.value, status.phrase.encode())
    if found[0] >= 500:
        _logger.error("a request was answered with %d: %s", found[0], error, exc_info=error)
    return found


def _given(error: SessionError, view: RequestView | None, config: SessionConfig) -> tuple[int, bytes] | None:
    """Ask `on_error`; a mistake in it must not cost the client the answer."""
    if config.on_error is None or view is None:
        return None
    try:
        given = config.on_error(view, error)
        if given is None:
            return None
        status, text = given
        body = text.encode() if isinstance(text, str) else bytes(memoryview(text))
        if operator.index(status) not in range(200, 600):
            raise ValueError("no status of an HTTP response")
    except Exception:
        _logger.exception("on_error must return None or (status, body as str or bytes); the default answer is sent")
        return None
    return operator.index(status), body


def goes_astray(view: RequestView) -> bool:
    """Tell whether a browser will drop a Secure cookie here: over plain http, and not on the developer's machine."""
    if view.scheme not in {"http", "ws"}:
        return False
    host = next(iter(view.header("host")), "").lower()
    return host.rpartition(":")[0] not in _LOCAL and host not in _LOCAL
