"""The warning about a Secure cookie that goes out over plain http, where browsers drop it."""

import logging
from typing import Final

from sessioncore.http._extractors import RequestView

__all__ = ["PlainHttpWarning"]

_logger = logging.getLogger("sessioncore")
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
_TEXT: Final = (
    "a Secure session cookie was sent over plain http, and browsers will drop it. Serve the application over TLS "
    "(a proxy must pass the scheme on to the server), or use SessionConfig.development() on your own machine."
)


class PlainHttpWarning:
    """Logs it once for each store."""

    __slots__ = ("_due",)

    def __init__(self, *, secure: bool) -> None:
        self._due = secure

    def check(self, view: RequestView) -> None:
        """Look at a request whose response sets the cookie; forwarded headers are not trusted."""
        if not self._due or view.scheme not in {"http", "ws"}:
            return
        host = next(iter(view.header("host")), "").lower()
        if host.rpartition(":")[0] not in _LOCAL and host not in _LOCAL:
            self._due = False
            _logger.warning(_TEXT)
