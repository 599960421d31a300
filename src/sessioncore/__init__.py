"""Server-side web sessions for Python's async frameworks: safe, exact and fast.

`http` is what a client sends and gets, `codec` values as bytes, `session` what a handler
holds, `persistence` loading and committing, `storage` the places for records; `_exchange`
drives one request and `_store` is the application's object. See docs/architecture.md.
"""

from sessioncore._audit import Finding, audit
from sessioncore._config import SessionConfig
from sessioncore._errors import (
    CodecError,
    ConfigError,
    CorruptRecord,
    CrossSiteRequest,
    LifecycleError,
    OwnerLimitReached,
    ResponseStarted,
    SessionError,
    SessionGone,
    SessionNotFound,
    SessionNotLoaded,
    SessionReleased,
    SessionTooLarge,
    StorageError,
    StorageUnavailable,
    UnregisteredType,
)
from sessioncore._events import EventKind, SessionEvent, StorageListener
from sessioncore._exchange import Exchange
from sessioncore._store import SessionStore
from sessioncore.http._extractors import (
    Extractor,
    Source,
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_lookup,
    from_param,
    from_query,
)
from sessioncore.http._request_view import RequestView
from sessioncore.persistence._driver import Done
from sessioncore.persistence._owners import SessionInfo
from sessioncore.session._keys import SessionKey
from sessioncore.session._session import Session
from sessioncore.storage import MemoryStorage, Moved, SQLiteStorage, Storage, Stored, Unreadable, storage_from_url

__version__ = "0.1.0"  # pyproject.toml reads it here

__all__ = [
    "CodecError", "ConfigError", "CorruptRecord", "CrossSiteRequest", "Done", "EventKind", "Exchange", "Extractor",
    "Finding", "LifecycleError", "MemoryStorage", "Moved", "OwnerLimitReached", "RequestView", "ResponseStarted",
    "SQLiteStorage", "Session", "SessionConfig", "SessionError", "SessionEvent", "SessionGone", "SessionInfo",
    "SessionKey", "SessionNotFound", "SessionNotLoaded", "SessionReleased", "SessionStore", "SessionTooLarge",
    "Source", "Storage", "StorageError", "StorageListener", "StorageUnavailable", "Stored", "Unreadable",
    "UnregisteredType", "__version__", "audit", "chain", "from_auth_header", "from_cookie", "from_form",
    "from_header", "from_lookup", "from_param", "from_query", "storage_from_url",
]  # fmt: skip
