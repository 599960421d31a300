"""Where the exchanges of a request stand in its scope, and the view of it.

Shared with sessioncore_litestar, which is built on this adapter and imports nothing
else that is private here. No part of the public API: names may change at any time.
"""

from typing import Final, TypeAlias

from sessioncore import ConfigError, Exchange, SessionStore
from sessioncore_asgi._types import Scope
from sessioncore_asgi._view import AsgiView

__all__ = ["EXCHANGES", "AsgiView", "Exchanges", "check_name", "check_store", "exchange_of", "has_store"]

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
        if exchange.session.store is store:
            check_name(name, scope_key)
            return True
    return False


def check_store(store: object, owner: str) -> None:
    """Refuse what is no store, before a request fails by it.

    Raises:
        ConfigError: it is a configuration, a storage or something else.
    """
    if not isinstance(store, SessionStore):
        raise ConfigError(
            f"{owner} takes a SessionStore, not {type(store).__name__}; pass SessionStore(SessionConfig(storage=...))"
        )


def check_name(known: str, scope_key: str) -> None:
    """Refuse a second name for one store.

    Raises:
        ConfigError: the two differ.
    """
    if known != scope_key:
        raise ConfigError(
            f"one store has both scope_key={known!r} and scope_key={scope_key!r}, and would send one cookie for two "
            "sessions; use one scope_key, or give the second a SessionStore with a cookie and key_prefix of its own"
        )
