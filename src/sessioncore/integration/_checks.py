"""What an adapter checks at setup and in each request: the store, its names, and other libraries' sessions."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from typing import Final

from sessioncore._errors import ConfigError
from sessioncore._exchange import Exchange
from sessioncore._store import SessionStore
from sessioncore.session._session import Session

__all__ = [
    "check_beside", "check_cookie", "check_scope_key", "check_store", "check_vacant", "has_finished",
    "warn_if_replaced",
]  # fmt: skip

_REPLACED: Final = (
    "the session %r of a request was replaced by another library's (%s). What handlers write there is not kept in this "
    "store, and login() and destroy() do not reach it. Remove the other session middleware, or give this store a name "
    "of its own, such as scope_key='account', and use get_session(request, scope_key='account')"
)


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
    """Return whether `known` is the same store as `store`, with the same scope key; both serve one request.

    Raises:
        ConfigError: it is the same store with another scope key, or another one with the same cookie or header.
    """
    if known is not store:
        _check_names(known, store)
    if known is store and known_key != scope_key:
        raise ConfigError(
            f"one store has both scope_key={known_key!r} and scope_key={scope_key!r} and would send one cookie for two "
            "sessions; use one scope_key, or create a second SessionStore with its own cookie name and key_prefix"
        )
    return known is store


def check_beside(known: SessionStore, known_key: str, store: SessionStore, scope_key: str) -> bool:
    """Do what `check_scope_key` does, and check that two stores of one application have different scope keys.

    Raises:
        ConfigError: one store has two scope keys, or two stores have the same one or the same cookie or header.
    """
    if known is not store and known_key == scope_key:
        raise ConfigError(
            f"this application has a store for scope_key={scope_key!r} already; give the second one another scope_key"
        )
    return check_scope_key(known, known_key, store, scope_key)


def _check_names(known: SessionStore, store: SessionStore) -> None:
    """Check that two stores write no cookie and no header of the same name, whatever paths and domains they have."""
    one, other = known._persistence.context.id_headers, store._persistence.context.id_headers
    if cookies := one.cookie_names & other.cookie_names:
        name = min(cookies)
        raise ConfigError(
            f"two stores use the cookie {name!r}, of which a browser keeps one value: the second session would be lost "
            f"on the next request; give one of them another: SessionConfig(extractor=from_cookie({name + '_2'!r}), "
            "key_prefix=...)"
        )
    if headers := set(one.names).intersection(other.names):
        name = min(headers)
        raise ConfigError(
            f"two stores use the header {name!r}, and a client would send one ID for both; give one of them another: "
            f"SessionConfig(extractor=from_header({name + '-2'!r}), key_prefix=...)"
        )


def check_cookie(store: SessionStore, cookie: object, theirs: str) -> None:
    """Check that `store` does not write the cookie of another library's sessions; `theirs` is for the error text.

    Raises:
        ConfigError: it does. The other library would take an ID of ours for its own, and store its record under it.
    """
    if cookie in store._persistence.context.id_headers.cookie_names:
        raise ConfigError(
            f"{theirs} has the cookie {cookie!r}, too, and one would overwrite the other; give one of them another: "
            "SessionConfig(extractor=from_cookie(...))"
        )


def has_finished(exchange: Exchange) -> bool:
    """Return whether the request of this exchange has ended: if it is served again, it needs a new exchange."""
    return exchange._view is None


def check_vacant(value: object, scope_key: str) -> None:
    """Check what a request has under `scope_key` before this store serves it.

    Raises:
        ConfigError: it is a session of another library, whose middleware is outside this one.
    """
    if value is not None and not isinstance(value, Session):
        raise ConfigError(
            f"another library's middleware outside of this one has set the session {scope_key!r} of this request "
            f"({_type_name(value)}), and would get ours in its place; remove it, or give this store a name of its "
            "own: scope_key='account'"
        )


def warn_if_replaced(store: SessionStore, scope_key: str, value: object) -> None:
    """Log, once per store, if a request no longer has this store's session under `scope_key`."""
    if value is not None and not isinstance(value, Session):
        store._persistence.context.warnings.warn(_REPLACED, scope_key, _type_name(value))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
