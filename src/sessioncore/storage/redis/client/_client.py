"""A client of redis-py: which transport it gets, and what else the storage takes from it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.credentials import StreamingCredentialProvider

from sessioncore._errors import ConfigError, StorageError
from sessioncore.storage.redis.client._client_transport import ClientTransport
from sessioncore.storage.redis.client._cluster import ClusterTransport
from sessioncore.storage.redis.client._opening import open_socket
from sessioncore.storage.redis.connection._reconnecting import ReconnectingConnection
from sessioncore.storage.redis.connection._transport import CallLimit, Transport

__all__ = ["Client"]

_SILENCE_TIMEOUT = 5.0  # seconds, where the client has no socket_timeout


class Client:
    """A client that was checked.

    `has_plain_connections` tells whether client and connections are redis-py's own classes. Only then
    can a `ReconnectingConnection` take a socket over; other classes may do more than redis-py's.

    Raises:
        ConfigError: it is no asyncio client, or decodes replies.
    """

    def __init__(self, client: Any) -> None:
        if isinstance(client, type) or not hasattr(client, "get_encoder") or not _is_asynchronous(client):
            raise ConfigError(
                "RedisStorage takes a client of redis.asyncio (Redis, master_for(...), RedisCluster); for a URL write "
                "RedisStorage.from_url(url)"
            )
        if client.get_encoder().decode_responses:
            raise ConfigError(
                "RedisStorage needs bytes: build the client without decode_responses=True "
                "(a second client for the rest of the application may keep it)"
            )
        self._client = client
        self.is_cluster = isinstance(client, RedisCluster)
        self.has_plain_connections = self.is_cluster or _is_plain(client)
        self._options: dict[str, Any] = (client if self.is_cluster else client.connection_pool).connection_kwargs
        self._authenticate: Callable[[bytes, bytes], Awaitable[None]] | None = None  # set by `on_new_credentials`
        self._loop: asyncio.AbstractEventLoop | None = None  # of a client that is not plain; None: not used yet

    def silence_timeout(self) -> float:
        """Return for how long a server may be silent.

        Raises:
            ConfigError: the client's `socket_timeout` is no such time.
        """
        seconds: Any = self._options.get("socket_timeout") or _SILENCE_TIMEOUT
        if not isinstance(seconds, (int, float)) or seconds <= 0:
            raise ConfigError("the client's socket_timeout must be a number of seconds above zero, or None")
        return float(seconds)

    def transport(self, silence_timeout: float, limit: CallLimit) -> Transport:
        """Return a new transport for the running event loop.

        Raises:
            StorageError: the client has connections of its own, and they belong to another loop.
        """
        if not self.has_plain_connections:
            self._loop = self._loop or asyncio.get_running_loop()
            if self._loop is not asyncio.get_running_loop():
                raise StorageError(
                    "a client whose connections are not redis-py's own serves one event loop, and this one has served "
                    "another: use a client and a storage for each loop"
                )
            return ClientTransport(self._client)
        if self.is_cluster:
            return ClusterTransport(self._client, silence_timeout, limit, self._subscribe)
        opener = partial(open_socket, self._client.connection_pool.make_connection)
        return ReconnectingConnection(opener, silence_timeout, limit)

    def on_new_credentials(self, authenticate: Callable[[bytes, bytes], Awaitable[None]]) -> None:
        """Call `authenticate` with each new token of a streaming provider, for example of cloud tokens.

        A connection that is not authenticated anew is closed when the old token expires.
        """
        self._authenticate = authenticate
        self._subscribe()

    def _subscribe(self) -> None:
        """Register the callback with a streaming provider; again after redis-py has registered its own."""
        provider = self._options.get("credential_provider")
        if isinstance(provider, StreamingCredentialProvider):
            callback: Any = self._pass_on  # redis-py awaits it, though its annotation does not say so
            provider.on_next(callback)

    async def _pass_on(self, token: Any) -> None:
        # A provider may keep only one callback, and ours has replaced the one of redis-py's client: so call it, too.
        parts: list[Any] = self._client.get_nodes() if self.is_cluster else [self._client.connection_pool]
        user, password = token.try_get("oid") or "", token.get_value()
        assert self._authenticate is not None
        await asyncio.gather(
            self._authenticate(user.encode(), password.encode()), *(part.re_auth_callback(token) for part in parts)
        )

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()
        self._loop = None


def _is_asynchronous(client: object) -> bool:
    if isinstance(client, (Redis, RedisCluster)):  # whatever has wrapped the method
        return True
    return inspect.iscoroutinefunction(getattr(client, "execute_command", None))  # a pool has none


def _is_plain(client: object) -> bool:
    if not isinstance(client, Redis):
        return False
    # As the classes hold it: a method that OpenTelemetry or Datadog has wrapped is another object at each access.
    if inspect.getattr_static(type(client), "execute_command") is not inspect.getattr_static(Redis, "execute_command"):
        return False
    made_by: type[Any] = cast("Any", client).connection_pool.connection_class
    return made_by.__module__.startswith("redis.")
