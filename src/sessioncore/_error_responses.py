"""Decides which response the client gets for an error.

The response says only what kind of error it is; the log has the details. Adapters call
`Exchange.error_response`, and decide nothing themselves.
"""

import logging
import operator
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias, TypeVar, cast

from msgspec import Struct

from sessioncore._causes import causes
from sessioncore._config import SessionConfig
from sessioncore._errors import (
    CrossSiteRequest,
    OwnerLimitReached,
    SessionError,
    SessionGone,
    StorageError,
    StorageUnavailable,
)
from sessioncore._opaque import Opaque
from sessioncore.http._names import is_token
from sessioncore.http._request_view import RequestView
from sessioncore.persistence._store_context import StoreContext

__all__ = [
    "ErrorResponse", "Headers", "close_code", "close_reason", "find_refusal", "is_session_error", "response_to",
    "says_ended",
]  # fmt: skip

T = TypeVar("T")

_logger = logging.getLogger("sessioncore")
Headers: TypeAlias = list[tuple[str, str]]
Content: TypeAlias = tuple[int, bytes, Headers]


def _content(status: HTTPStatus, *headers: tuple[str, str]) -> Content:
    return status.value, status.phrase.encode(), list(headers)


# The default responses; any other error gets `_HTTP_500`.
_RESPONSES: Final[Mapping[type[SessionError], Content]] = {
    StorageUnavailable: _content(HTTPStatus.SERVICE_UNAVAILABLE, ("retry-after", "1")),  # seconds
    SessionGone: _content(HTTPStatus.UNAUTHORIZED),
    CrossSiteRequest: _content(HTTPStatus.FORBIDDEN),
    OwnerLimitReached: _content(HTTPStatus.CONFLICT),
}
_HTTP_500: Final = _content(HTTPStatus.INTERNAL_SERVER_ERROR)
_FIXED: Final = frozenset({"content-length", "cache-control"})
_BODILESS: Final = frozenset({204, 304})  # they have neither a body nor its length (RFC 9110, section 8.6)
# None of them is a bug in the application, so each gets its own response, even if other errors were raised from it.
_REFUSALS: Final = (StorageError, OwnerLimitReached, CrossSiteRequest, SessionGone)
# The code and the reason with which a WebSocket is closed for them; for any other error the framework decides.
_CLOSINGS: Final[Mapping[type[SessionError], tuple[int | None, str]]] = {
    StorageUnavailable: (1013, "try again later"),
    CrossSiteRequest: (1008, "cross-site request"),
    SessionGone: (1008, "session ended"),
}


class ErrorResponse(Opaque, Struct, frozen=True):
    """The response to send instead of the handler's.

    `handled`: the error was raised by sessioncore, so do not raise it again. Otherwise raise it
    again after the response is sent, so that the server logs it.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    handled: bool = True

    def __repr__(self) -> str:
        return f"<ErrorResponse {self.status}>"  # `headers` may send an ID


def find_refusal(error: BaseException | None) -> SessionError | None:
    """Return the error of `_REFUSALS` from which the application raised `error`; None: there is none."""
    return cast("SessionError | None", _find(error, lambda one: isinstance(one, _REFUSALS)))


def _find(
    error: BaseException | None, matches: Callable[[BaseException], bool], within: frozenset[int] = frozenset()
) -> BaseException | None:
    """Return the matching error from which `error` was raised; of a group, the first one, if all have one.

    `within`: the groups around it, because `raise group.exceptions[0] from group` closes a circle, too.
    """
    for one in causes(error):
        if matches(one):
            return one
        if isinstance(one, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", one)
            inside = within | {id(group)}
            found = [None if id(group) in within else _find(part, matches, inside) for part in group.exceptions]
            return None if None in found else found[0]
    return None


def close_code(error: BaseException) -> int | None:
    """Return the code that closes a WebSocket whose handler raised `error`; None: leave it to the framework.

    1008 means that the endpoint's policy was violated (RFC 6455, section 7.4.1), 1013 that the client
    should try again later (the registry of that section).
    """
    return _closing(error)[0]


def close_reason(error: BaseException) -> str:
    """Return the text that goes with `close_code`."""
    return _closing(error)[1]


def _closing(error: BaseException) -> tuple[int | None, str]:
    return _by_kind(_CLOSINGS, find_refusal(error), (None, ""))


def _by_kind(table: Mapping[type[SessionError], T], error: SessionError | None, default: T) -> T:
    return next((entry for kind, entry in table.items() if isinstance(error, kind)), default)


def says_ended(error: BaseException, is_disconnect: Callable[[BaseException], bool]) -> bool:
    """Return whether a handler's error only says that its connection or its session has ended.

    `is_disconnect` recognises the framework's own errors for this.
    """
    return _find(error, lambda one: is_disconnect(one) or close_code(one) is not None) is not None


def is_session_error(error: BaseException | None) -> bool:
    """Return whether `error` is, or was raised from, an error of sessioncore."""
    return _find(error, lambda one: isinstance(one, SessionError)) is not None


def response_to(
    error: SessionError | None,
    view: RequestView | None,
    context: StoreContext,
    session_headers: Headers,
    *,
    handled: bool,
) -> ErrorResponse:
    """Return the response to an error, with the session's headers; caches must not store it.

    `on_error` may choose it; the default says the standard phrase of its status. `error` is None for an error of
    the application.
    """
    custom = None if error is None else _custom_response(error, view, context.config)
    status, body, headers = custom or _by_kind(_RESPONSES, error, _HTTP_500)
    if status >= 500 and error is not None:
        what = f"a request failed with status {status}"
        if isinstance(error, StorageError):
            context.health.report(what, error)
        else:
            _logger.error("%s: %s", what, error, exc_info=error)
    if status not in _BODILESS:
        if not any(name == "content-type" for name, _ in headers):
            headers = [("content-type", "text/plain; charset=utf-8"), *headers]
        headers = [*headers, ("content-length", str(len(body)))]
    return ErrorResponse(status, [*headers, ("cache-control", "no-store"), *session_headers], body, handled)


def _custom_response(error: SessionError, view: RequestView | None, config: SessionConfig) -> Content | None:
    """Call `on_error`; if it fails, the client gets the default response."""
    if config.on_error is None or view is None:
        return None
    try:
        custom = config.on_error(view, error)
        if custom is None:
            return None
        status, text, *rest = custom
        headers = _checked(*rest)
        body = text.encode() if isinstance(text, str) else bytes(memoryview(text))
        if operator.index(status) not in range(200, 600):
            raise ValueError("the status must be from 200 to 599")
        if body and status in _BODILESS:
            raise ValueError("responses with the status 204 or 304 have no body")
    except Exception:
        _logger.exception(
            "on_error must return None or (status, body as str or bytes), perhaps with a mapping of headers; "
            "the default response is sent"
        )
        return None
    return operator.index(status), body, headers


def _checked(headers: Mapping[str, str] | None = None) -> Headers:
    """Return the headers of `on_error` in lower case, without those that are set here.

    Raises:
        ValueError: a name or a value cannot be a header's (RFC 9110, section 5.5), or is Set-Cookie.
    """
    checked: Headers = []
    for name, value in (headers or {}).items():
        if not is_token(name) or not value.isprintable() or not value.isascii() or name.lower() == "set-cookie":
            raise ValueError("a header of on_error needs a token as its name, not Set-Cookie, and printable ASCII")
        if name.lower() not in _FIXED:
            checked.append((name.lower(), value))
    return checked
