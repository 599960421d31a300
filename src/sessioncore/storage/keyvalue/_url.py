"""A key-value storage from a URL: the store of py-key-value that its scheme names, which the storage then closes."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from sessioncore._errors import ConfigError
from sessioncore.storage._url_parts import options_of, port_of
from sessioncore.storage.keyvalue._protocol import KeyValueStore
from sessioncore.storage.keyvalue._storage import KeyValueStorage

__all__ = ["storage_over"]

_T = TypeVar("_T")


class OwningKeyValueStorage(KeyValueStorage):
    """A storage that closes its store, and makes a new one in case it is used again."""

    def __init__(self, make: Callable[[], KeyValueStore], **options: Any) -> None:
        super().__init__(make(), **options)
        self._make = make

    async def aclose(self) -> None:
        """Close the store."""
        used: Any = self._calls.replace_store(self._make())
        await used.close()


def storage_over(url: str, options: dict[str, Any]) -> KeyValueStorage:
    """Return the storage for a URL without its `keyvalue+`.

    Raises:
        ConfigError: the URL cannot work, or what the store needs is not installed.
    """
    return OwningKeyValueStorage(partial(_store_at, url), **options)


def _store_at(url: str) -> KeyValueStore:
    scheme = url.partition("://")[0]
    try:
        return _MAKERS[scheme](url)
    except ImportError as exc:
        raise ConfigError(
            f"the driver for this URL is missing; pip install 'py-key-value-aio[{_EXTRAS[scheme]}]'"
        ) from exc
    except Exception:  # noqa: BLE001 - each driver has its own; and no cause, since it may quote the URL
        raise ConfigError(_FORM) from None


_FORM = (
    "not the URL of a key-value store: write keyvalue+redis://host:port/0, keyvalue+postgresql://host/database, "
    "keyvalue+mongodb://host, keyvalue+memcached://host:port, keyvalue+dynamodb://table?region=name or "
    "keyvalue+s3://bucket?region=name; percent-encode special letters in a password"
)


def _split(url: str, *used: str) -> SplitResult:
    """Split a URL, and refuse what its store would ignore or replace.

    Raises:
        ValueError: it has another part than those in `used`.
    """
    parts = urlsplit(url)
    present = {"login": "@" in parts.netloc, "path": parts.path not in {"", "/"}, "query": bool(parts.query)}
    if parts.fragment or any(present[name] for name in present if name not in used):
        raise ValueError("a part that the store ignores")
    port_of(parts.netloc, 0)
    return parts


def _redis(url: str) -> KeyValueStore:
    _split(url, "login", "path")
    from key_value.aio.stores.redis import RedisStore  # noqa: PLC0415 - each store needs another driver

    return RedisStore(url=url)


def _postgresql(url: str) -> KeyValueStore:
    from key_value.aio.stores.postgresql import PostgreSQLStore  # noqa: PLC0415

    return PostgreSQLStore(url=url)


def _mongodb(url: str) -> KeyValueStore:
    from key_value.aio.stores.mongodb import MongoDBStore  # noqa: PLC0415

    return MongoDBStore(url=url)


def _memcached(url: str) -> KeyValueStore:
    parts = _split(url)
    from key_value.aio.stores.memcached import store as memcached  # noqa: PLC0415

    client = cast("Any", memcached).Client(parts.hostname or "127.0.0.1", parts.port or 11211)
    long_keys = memcached.MemcachedV1KeySanitizationStrategy()
    return _Memcached(memcached.MemcachedStore(client=client, key_sanitization_strategy=long_keys), client)


class _Memcached:
    """A store over aiomcache, which gives a cancelled call's connection to the next one, which would read its reply."""

    def __init__(self, store: KeyValueStore, client: Any) -> None:
        self._store = store
        self._client = client

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return await self._whole(self._store.get(key, collection=collection))

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None:
        await self._whole(self._store.put(key, value, collection=collection, ttl=ttl))

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return await self._whole(self._store.delete(key, collection=collection))

    async def close(self) -> None:
        await self._client.close()

    async def _whole(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except BaseException as exc:
            if not isinstance(exc, Exception):
                await self._client.close()  # the idle connections: this call's is among them by now
            raise


def _dynamodb(url: str) -> KeyValueStore:
    parts = _split(url, "query")
    options = _aws_options(parts)
    from key_value.aio.stores.dynamodb import DynamoDBStore  # noqa: PLC0415

    return DynamoDBStore(table_name=parts.netloc, **options)


def _s3(url: str) -> KeyValueStore:
    parts = _split(url, "query")
    options = _aws_options(parts)
    from key_value.aio.stores.s3 import S3Store  # noqa: PLC0415

    return S3Store(bucket_name=parts.netloc, **options)


def _aws_options(parts: SplitResult) -> dict[str, Any]:
    """Return the region, and the endpoint of a compatible service; the credentials are in AWS's own variables."""
    names = {"region": "region_name", "endpoint": "endpoint_url"}
    return {names[name]: value for name, value in options_of(parts.query)}  # an empty one would come from the variables


_MAKERS: dict[str, Callable[[str], KeyValueStore]] = {
    "redis": _redis,
    "rediss": _redis,
    "postgresql": _postgresql,
    "mongodb": _mongodb,
    "mongodb+srv": _mongodb,
    "memcached": _memcached,
    "dynamodb": _dynamodb,
    "s3": _s3,
}
_EXTRAS = {scheme: scheme.partition("+")[0].replace("rediss", "redis") for scheme in _MAKERS}
