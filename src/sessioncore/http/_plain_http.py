"""The warning about a Secure cookie that is sent over plain http, where browsers ignore it."""

from typing import Final

from sessioncore._warnings import Warnings
from sessioncore.http._extractors import RequestView

__all__ = ["PlainHttpWarning"]

_MESSAGE: Final = (
    "a Secure session cookie was sent over plain http, where browsers ignore it. Serve the application over TLS "
    "(a proxy must pass the scheme on to the server), or use SessionConfig.development() on your own machine."
)


class PlainHttpWarning:
    """Logs the warning once for each store."""

    __slots__ = ("_enabled", "_warnings")

    def __init__(self, warnings: Warnings, *, secure: bool) -> None:
        self._enabled = secure
        self._warnings = warnings

    def check(self, view: RequestView) -> None:
        """Check a request whose response sets the cookie; forwarded headers are not trusted."""
        if not self._enabled or view.scheme not in {"http", "ws"}:
            return
        host = next(iter(view.header("host")), "").lower()
        if host.partition(":")[0] != "localhost":  # where browsers accept it; not all do for 127.0.0.1
            self._warnings.warn(_MESSAGE)
