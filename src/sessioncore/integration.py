"""For authors of adapters: the checks to make at setup, and what the methods of an exchange return.

`DONE` is what `load`, `save_late` and `finish` return if nothing must be awaited. Awaiting it is
correct as well; comparing with it is faster.

`docs/adapters/custom.md` lists what an adapter must do.
"""

from sessioncore._error_responses import ErrorResponse
from sessioncore._errors import ConfigError
from sessioncore._store import SessionStore
from sessioncore.persistence._drive import DONE

__all__ = ["DONE", "ErrorResponse", "check_beside", "check_scope_key", "check_store"]


def check_store(store: object, caller: str) -> None:
    """Check that `store` is a SessionStore, at setup rather than in the first request; `caller` is for the error text.

    Raises:
        ConfigError: it is a configuration, a storage or something else.
    """
    if not isinstance(store, SessionStore):
        raise ConfigError(
            f"{caller} takes a SessionStore, not {type(store).__name__}; pass SessionStore(SessionConfig(storage=...))"
        )


def check_scope_key(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Return whether `known` is the same store as `store`, with the same scope key.

    Raises:
        ConfigError: it is the same store with another scope key.
    """
    if known is store and known_key != scope_key:
        raise ConfigError(
            f"one store has both scope_key={known_key!r} and scope_key={scope_key!r} and would send one cookie for two "
            "sessions; use one scope_key, or create a second SessionStore with its own cookie name and key_prefix"
        )
    return known is store


def check_beside(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Do what `check_scope_key` does, and check that two stores of one application have different scope keys.

    Raises:
        ConfigError: one store has two scope keys, or two stores have the same one.
    """
    if check_scope_key(known, known_key, store, scope_key):
        return True
    if known_key == scope_key:
        raise ConfigError(
            f"this application has a store for scope_key={scope_key!r} already; give the second one another scope_key"
        )
    return False
