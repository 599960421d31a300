"""The exchanges of a request in its scope.

sessioncore_litestar is built on this adapter and imports nothing else that is private here.
This module is not part of the public API: names may change at any time.
"""

from contextlib import suppress
from operator import attrgetter
from typing import Final, TypeAlias

from sessioncore import ConfigError, Exchange, SessionStore
from sessioncore.integration import check_cookie, check_scope_key, warn_if_replaced
from sessioncore_asgi._types import Scope
from sessioncore_asgi._view import AsgiView

__all__ = ["EXCHANGES", "AsgiView", "Exchanges", "check_inside", "exchange_of", "has_store", "warn_of_other_sessions"]

_LIBRARIES: Final = frozenset({"litestar", "starlette", "starsessions"})  # their SessionMiddleware sets "session"
_COOKIES: Final = ("backend.config.key", "session_cookie", "cookie_name")  # where these three name their cookie
EXCHANGES: Final = "sessioncore"  # a scope key of its own, because applications may replace scope["session"]
# scope_key, the innermost exchange, the headers that all of them have sent, the outer exchanges
Exchanges: TypeAlias = "tuple[str, Exchange, list[tuple[str, str]], Exchanges] | None"


def exchange_of(scope: Scope, scope_key: str) -> Exchange | None:
    """Return the exchange for `scope_key`, or None."""
    rest: Exchanges = scope.get(EXCHANGES)
    while rest is not None:
        name, exchange, _, rest = rest
        if name == scope_key:
            return exchange
    return None


def has_store(rest: Exchanges, store: SessionStore, scope_key: str) -> bool:
    """Return whether one of these exchanges belongs to `store`.

    Raises:
        ConfigError: one does, with another scope key.
    """
    while rest is not None:
        name, exchange, _, rest = rest
        if check_scope_key(exchange.session.store, name, store, scope_key):
            return True
    return False


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
    """Log it if the session of `exchange` was replaced by another library's."""
    rest: Exchanges = scope.get(EXCHANGES)
    while rest is not None:
        name, found, _, rest = rest
        if found is exchange:
            warn_if_replaced(exchange.session.store, name, scope.get(name))
