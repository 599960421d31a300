"""The warning about a Secure cookie that is sent over plain http, where browsers ignore it."""

from typing import Final

from sessioncore._warnings import Warnings
from sessioncore.http._request_view import RequestView

__all__ = ["warn_over_plain_http"]

_MESSAGE: Final = (
    "a Secure session cookie was sent over plain http, where browsers ignore it. Serve the application over TLS "
    "(a proxy must pass the scheme on to the server), or use SessionConfig.development() on your own machine."
)


def warn_over_plain_http(view: RequestView, warnings: Warnings) -> None:
    """Warn about a request whose response sets a Secure cookie; forwarded headers are not trusted."""
    if view.scheme not in {"http", "ws"}:
        return
    host = next(iter(view.header("host")), "").lower()
    # Browsers accept it on localhost, except Safari; not all do for 127.0.0.1.
    if host.partition(":")[0] != "localhost" or _is_safari(view):
        warnings.warn(_MESSAGE)


def _is_safari(view: RequestView) -> bool:
    agent = next(iter(view.header("user-agent")), "")
    return "AppleWebKit" in agent and "Chrome/" not in agent
