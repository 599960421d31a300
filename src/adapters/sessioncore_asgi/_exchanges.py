"""The exchanges of a request, one for each store; its scope has them, also for `sessioncore_litestar`."""

from typing import Final, TypeAlias

from sessioncore import Exchange, SessionStore
from sessioncore.integration import check_scope_key, has_finished
from sessioncore_asgi._types import Scope

__all__ = ["EXCHANGES", "SCOPE_KEY", "SENT", "Exchanges", "exchange_of", "forget_finished", "has_store"]

EXCHANGES: Final = "sessioncore"  # a scope key of its own, because applications may replace scope["session"]
Exchanges: TypeAlias = "tuple[str, Exchange, list[tuple[str, str]], Exchanges] | None"
"""The scope key and the exchange of one store, the headers that all stores have added, and the outer exchanges.

It is a tuple because every request makes one, and a Struct would cost two per cent of the request.
"""

SCOPE_KEY: Final = 0
SENT: Final = 2


def exchange_of(scope: Scope, scope_key: str) -> Exchange | None:
    """Return the exchange for `scope_key`, or None."""
    rest: Exchanges = scope.get(EXCHANGES)
    while rest is not None:
        name, exchange, _, rest = rest
        if name == scope_key:
            return exchange
    return None


def forget_finished(scope: Scope) -> Exchanges:
    """Return the exchanges that have not finished, and leave only these in the scope.

    A middleware that is outside of all of them, or between two, may call the application again with the same scope.
    """
    rest: Exchanges = scope[EXCHANGES]
    while rest is not None and has_finished(rest[1]):
        rest = rest[3]
    scope[EXCHANGES] = rest
    return rest


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
