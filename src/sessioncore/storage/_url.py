"""A storage from a URL, for configuration by environment variables.

A driver is imported only for a URL that needs it. A URL may contain a password, so errors
quote only its scheme.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from sessioncore._errors import ConfigError
from sessioncore._storage_protocol import Storage
from sessioncore.storage._url_parts import options_of
from sessioncore.storage.memory._storage import MemoryStorage
from sessioncore.storage.sqlite._storage import SQLiteStorage

__all__ = ["storage_from_url"]

_BEGINNING = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/@]*)(:0*[1-9]\d*)?")


def storage_from_url(url: str, **options: Any) -> Storage:
    """Return a storage for `url`; options are passed to it as keyword arguments.

    | URL | storage |
    |---|---|
    | `memory://` | MemoryStorage |
    | `sqlite:///relative.db`, `sqlite:////absolute.db` | SQLiteStorage |
    | `redis://`, `rediss://`, `unix://` | RedisStorage |
    | `redis+sentinel://host:port,host:port/service/db` | RedisStorage, through Sentinel |
    | `redis+cluster://host:port,host:port` | RedisStorage, on a cluster |
    | `postgresql://`, `postgres://` | PostgresStorage |
    | `keyvalue+redis://`, `keyvalue+mongodb://` and others | KeyValueStorage, over a store of py-key-value |

    Raises:
        ConfigError: the URL cannot work, or its driver is not installed. The URL is not shown.
    """
    url = url.strip() if isinstance(cast("object", url), str) else ""
    found = _BEGINNING.match(url)
    if found is None:
        raise ConfigError(f"a storage URL begins with one of {', '.join(f'{name}://' for name in _MAKERS)}")
    scheme = found[1].lower()
    make = _MAKERS.get("keyvalue+..." if scheme.startswith("keyvalue+") else scheme)
    if make is None:
        known = ", ".join(_MAKERS)
        raise ConfigError(f"there is no storage for the URL scheme {scheme!r}; known are {known}")
    return make(f"{scheme}{url[len(scheme) :]}", options)


def _memory(url: str, options: dict[str, Any]) -> Storage:
    if url != "memory://":
        raise ConfigError("memory:// takes nothing after the slashes")
    return MemoryStorage(**options)


def _sqlite(url: str, options: dict[str, Any]) -> Storage:
    # Split by hand: a path may contain characters that end a path in a URL. A percent sign is written %25.
    host, slash, path = url.removeprefix("sqlite://").partition("/")
    if host or not slash or not path:
        raise ConfigError(
            "a SQLite URL is sqlite:///relative/path or sqlite:////absolute/path, with three or four slashes"
        )
    if "=" in path.partition("?")[2]:  # as in URLs of SQLAlchemy: the file would get a name with them
        raise ConfigError("a SQLite URL has no options; a question mark in the path is written %3F")
    return SQLiteStorage(unquote(path), **options)


def _redis(url: str, options: dict[str, Any]) -> Storage:
    with _config_errors():
        from sessioncore.storage.redis._storage import RedisStorage  # noqa: PLC0415 - imports the driver
    return RedisStorage.from_url(url, **options)


def _postgres(url: str, options: dict[str, Any]) -> Storage:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(_POSTGRES_FORM) from None  # its message quotes the URL
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if parts.fragment or "/" in parts.path[1:] or not all(_HOST.fullmatch(host) for host in hosts):
        raise ConfigError(_POSTGRES_FORM)
    try:
        options_of(parts.query)
    except ValueError:
        raise ConfigError(
            "an option of the PostgreSQL URL has no value, so its default would be used; write name=value"
        ) from None
    with _config_errors():
        from sessioncore.storage.postgres._storage import PostgresStorage  # noqa: PLC0415 - imports the driver
    return PostgresStorage(url, **options)


def _keyvalue(url: str, options: dict[str, Any]) -> Storage:
    from sessioncore.storage.keyvalue._url import storage_over  # noqa: PLC0415 - few need it

    return storage_over(url.removeprefix("keyvalue+"), options)


_POSTGRES_FORM = (
    "a PostgreSQL URL is postgresql://user:password@host:port/database;"
    " in the password, each of : / ? # @ % must be percent-encoded"
)


@contextmanager
def _config_errors() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:  # of `needs_extra`, which says what to install
        raise ConfigError(f"the driver for this URL is missing: {exc}") from exc
    except ImportError as exc:  # likewise
        raise ConfigError(f"the driver for this URL cannot be used: {exc}") from exc


_MAKERS: dict[str, Callable[[str, dict[str, Any]], Storage]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "redis+sentinel": _redis,
    "rediss+sentinel": _redis,
    "redis+cluster": _redis,
    "rediss+cluster": _redis,
    "postgresql": _postgres,
    "postgres": _postgres,
    "keyvalue+...": _keyvalue,  # it knows the stores
}
