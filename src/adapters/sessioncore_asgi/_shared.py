"""The exchanges of a request in its scope.

sessioncore_litestar is built on this adapter and imports nothing else that is private here.
This module is not part of the public API: names may change at any time.
"""

from typing import Final, TypeAlias

from sessioncore import Exchange, SessionStore
from sessioncore.integration import check_scope_key
from sessioncore_asgi._types import Scope
from sessioncore_asgi._view import AsgiView

__all__ = ["EXCHANGES", "AsgiView", "Exchanges", "exchange_of", "has_store"]

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
    """Tell whether one of these exchanges belongs to `store`.

    Raises:
        ConfigError: one does, with another scope key.
    """
    while rest is not None:
        name, exchange, _, rest = rest
        if check_scope_key(exchange.session.store, name, store, scope_key):
            return True
    return False
