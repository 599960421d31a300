"""What becomes of an error: whose it is, and what the client is told.

The client hears in general terms, the log in detail. An adapter asks here, by way of
`Exchange.error_response`, and decides nothing itself.
"""

import logging
import operator
from http import HTTPStatus
from typing import Final

from msgspec import Struct

from sessioncore._config import SessionConfig
from sessioncore._errors import OwnerLimitReached, SessionError, StorageError, StorageUnavailable
from sessioncore.http._extractors import RequestView

__all__ = ["ErrorResponse", "answer_to", "is_ours", "refusal_behind", "text_response"]

_logger = logging.getLogger("sessioncore")
_REFUSALS: Final = (StorageError, OwnerLimitReached)  # no bug of the application, so its 500 would say the wrong thing


class ErrorResponse(Struct, frozen=True):
    """The response to send instead of the handler's.

    `handled`: the error is one of sessioncore's and goes no further. Otherwise raise it
    again once the response is sent, so that the server logs it.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    handled: bool = True


def refusal_behind(error: BaseException | None) -> SessionError | None:
    """Return the refusal of the storage, or of an owner's limit, that an application met and made its own error of."""
    while error is not None and not isinstance(error, _REFUSALS):
        error = error.__cause__
    return error


def is_ours(error: BaseException | None) -> bool:
    """Tell whether an error of sessioncore is the cause of `error`."""
    while error is not None and not isinstance(error, SessionError):
        error = error.__cause__
    return error is not None


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


def text_response(status: int, body: bytes, owed: list[tuple[str, str]], *, handled: bool) -> ErrorResponse:
    """Return a response of plain text that no cache keeps, with the session's own headers."""
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    ]
    return ErrorResponse(status, headers + owed, body, handled)
