"""Decides which response the client gets for an error.

The response says only what kind of error it is; the log has the details. Adapters call
`Exchange.error_response`, and decide nothing themselves.
"""

import logging
import operator
from http import HTTPStatus
from typing import Final

from msgspec import Struct

from sessioncore._config import SessionConfig
from sessioncore._errors import OwnerLimitReached, SessionError, StorageError, StorageUnavailable
from sessioncore.http._extractors import RequestView
from sessioncore.persistence._store_context import StoreContext

__all__ = ["ErrorResponse", "find_refusal", "is_session_error", "status_and_body", "text_response"]

_logger = logging.getLogger("sessioncore")
_REFUSALS: Final = (StorageError, OwnerLimitReached)  # not a bug in the application, so a 500 would be wrong


class ErrorResponse(Struct, frozen=True):
    """The response to send instead of the handler's.

    `handled`: the error was raised by sessioncore, so do not raise it again. Otherwise raise it
    again after the response is sent, so that the server logs it.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    handled: bool = True


def find_refusal(error: BaseException | None) -> SessionError | None:
    """Return the StorageError or OwnerLimitReached from which the application raised `error`; None: there is none."""
    while error is not None and not isinstance(error, _REFUSALS):
        error = error.__cause__
    return error


def is_session_error(error: BaseException | None) -> bool:
    """Tell whether `error` is, or was raised from, an error of sessioncore."""
    while error is not None and not isinstance(error, SessionError):
        error = error.__cause__
    return error is not None


def status_and_body(error: SessionError, view: RequestView | None, context: StoreContext) -> tuple[int, bytes]:
    """Return status and body: those from `on_error`, or else 503, 409 or 500 with the standard phrase."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, StorageUnavailable):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    elif isinstance(error, OwnerLimitReached):
        status = HTTPStatus.CONFLICT
    response = _custom_response(error, view, context.config) or (status.value, status.phrase.encode())
    # A storage that is down fails each request: one traceback says as much as a thousand.
    if response[0] >= 500 and (not isinstance(error, StorageError) or context.health.must_be_logged(error)):
        _logger.error("a request failed with status %d: %s", response[0], error, exc_info=error)
    return response


def _custom_response(error: SessionError, view: RequestView | None, config: SessionConfig) -> tuple[int, bytes] | None:
    """Call `on_error`; if it fails, the client gets the default response."""
    if config.on_error is None or view is None:
        return None
    try:
        custom = config.on_error(view, error)
        if custom is None:
            return None
        status, text = custom
        body = text.encode() if isinstance(text, str) else bytes(memoryview(text))
        if operator.index(status) not in range(200, 600):
            raise ValueError("the status must be from 200 to 599")
    except Exception:
        _logger.exception("on_error must return None or (status, body as str or bytes); the default response is sent")
        return None
    return operator.index(status), body


def text_response(status: int, body: bytes, session_headers: list[tuple[str, str]], *, handled: bool) -> ErrorResponse:
    """Return a plain text response that caches must not store, with the session's headers."""
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    ]
    return ErrorResponse(status, headers + session_headers, body, handled)
