"""Sessions of other libraries in the same application: refused where they would take the place of ours."""

from contextlib import suppress
from operator import attrgetter
from typing import Final

from sessioncore import ConfigError, Exchange, SessionStore
from sessioncore.integration import check_cookie, warn_if_replaced
from sessioncore_asgi._exchanges import EXCHANGES, Exchanges
from sessioncore_asgi._types import Scope

__all__ = ["check_inside", "warn_of_other_sessions"]

_LIBRARIES: Final = frozenset({"litestar", "starlette", "starsessions"})  # their SessionMiddleware sets "session"
_COOKIES: Final = ("backend.config.key", "session_cookie", "cookie_name")  # where these three name their cookie


def check_inside(app: object, scope_key: str, store: SessionStore) -> None:
    """Refuse another library's session middleware directly inside of ours, unless the two share nothing.

    Raises:
        ConfigError: there is one, and `scope_key` is where they all put their session, or it has a cookie of `store`.
    """
    for _ in range(100):  # more than anybody has; an attribute may lead to itself
        if app is None:
            return
        kind = type(app)
        if not kind.__module__.startswith("sessioncore") and any(map(_is_session_middleware, kind.__mro__)):
            name = f"{kind.__module__}.{kind.__qualname__}"
            if scope_key == "session":
                raise ConfigError(
                    f"{name} inside of this middleware takes the place of its session: handlers would write to that "
                    "one, and login() would not reach it; remove it, or give this store a name of its own: "
                    "scope_key='account'"
                )
            for path in _COOKIES:
                with suppress(AttributeError):
                    check_cookie(store, attrgetter(path)(app), name)
        app = getattr(app, "app", None) or getattr(app, "_app", None)


def _is_session_middleware(kind: type) -> bool:
    return kind.__name__ == "SessionMiddleware" and kind.__module__.partition(".")[0] in _LIBRARIES


def warn_of_other_sessions(scope: Scope, exchange: Exchange) -> None:
    """Log a warning if the session of `exchange` was replaced by another library's."""
    rest: Exchanges = scope.get(EXCHANGES)
    while rest is not None:
        name, found, _, rest = rest
        if found is exchange:
            warn_if_replaced(exchange.session.store, name, scope.get(name))
