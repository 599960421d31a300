"""Where the exchanges of a request stand in its scope, and the view of it.

Shared with sessioncore_litestar, which is built on this adapter and imports nothing
else that is private here. No part of the public API: names may change at any time.
"""

from typing import Final, TypeAlias

from sessioncore import Exchange, SessionStore
from sessioncore.integration import check_scope_key
from sessioncore_asgi._types import Scope
from sessioncore_asgi._view import AsgiView

__all__ = ["EXCHANGES", "AsgiView", "Exchanges", "exchange_of", "has_store"]

EXCHANGES: Final = "sessioncore"  # in the scope, beside the session: an application may put another thing in its place
# scope_key, the innermost, what all of them have to tell the client, those around it
Exchanges: TypeAlias = "tuple[str, Exchange, list[tuple[str, str]], Exchanges] | None"


def exchange_of(scope: Scope, scope_key: str) -> Exchange | None:
    """Return the exchange under `scope_key`."""
    rest: Exchanges = scope.get(EXCHANGES)
    while rest is not None:
        name, exchange, _, rest = rest
        if name == scope_key:
            return exchange
    return None


def has_store(rest: Exchanges, store: SessionStore, scope_key: str) -> bool:
    """Tell whether one of these exchanges is of `store` already.

    Raises:
        ConfigError: it is, under another name.
    """
    while rest is not None:
        name, exchange, _, rest = rest
        if check_scope_key(exchange.session.store, name, store, scope_key):
            return True
    return False
