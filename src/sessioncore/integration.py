"""For those who write adapters: the checks that every adapter makes when it is set up, and the type of an answer.

`docs/adapters/custom.md` is the checklist of an adapter's duties.
"""

from sessioncore._error_responses import ErrorResponse
from sessioncore._errors import ConfigError
from sessioncore._store import SessionStore

__all__ = ["ErrorResponse", "check_beside", "check_scope_key", "check_store"]


def check_store(store: object, taker: str) -> None:
    """Refuse what is no store, before a request fails by it; `taker` names what was called.

    Raises:
        ConfigError: it is a configuration, a storage or something else.
    """
    if not isinstance(store, SessionStore):
        raise ConfigError(
            f"{taker} takes a SessionStore, not {type(store).__name__}; pass SessionStore(SessionConfig(storage=...))"
        )


def check_scope_key(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Return whether `store` is the one that is there already, under its name.

    Raises:
        ConfigError: it is, under another name.
    """
    if known is store and known_key != scope_key:
        raise ConfigError(
            f"one store has both scope_key={known_key!r} and scope_key={scope_key!r}, and would send one cookie for "
            "two sessions; use one scope_key, or give the second a SessionStore with a cookie and key_prefix of its own"
        )
    return known is store


def check_beside(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Do what `check_scope_key` does, for the stores of one application: no two of them have one name.

    Raises:
        ConfigError: one store has two names, or two stores have one.
    """
    if check_scope_key(known, known_key, store, scope_key):
        return True
    if known_key == scope_key:
        raise ConfigError(f"this application has a store for scope_key={scope_key!r} already; name the second one")
    return False
