"""Renewed credentials, for connections that are already open.

A streaming provider of redis-py, for example for cloud tokens, calls back when it has a new token.
A connection that does not log in again with it is closed when the old token expires. A provider may
keep only one callback, and ours replaces that of redis-py's client, so it also calls
`re_auth_callback`, as redis-py's own later listeners do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import RedisCluster
from redis.credentials import StreamingCredentialProvider

__all__ = ["Renewals"]


class Renewals:
    """Listens to the provider of one client."""

    def __init__(self, client: Any, log_in: Callable[[bytes, bytes], Awaitable[None]]) -> None:
        self._client = client
        self._log_in = log_in
        is_cluster = isinstance(client, RedisCluster)
        kwargs = client.connection_kwargs if is_cluster else client.connection_pool.connection_kwargs
        self._provider: Any = kwargs.get("credential_provider")
        self._parts: Callable[[], list[Any]] = client.get_nodes if is_cluster else lambda: [client.connection_pool]

    def listen(self) -> None:
        """Register the callback; do so again after redis-py has registered its own."""
        if isinstance(self._provider, StreamingCredentialProvider):
            callback: Any = self._renewed  # redis-py awaits it, though its annotation does not say so
            self._provider.on_next(callback)

    async def _renewed(self, token: Any) -> None:
        user, password = token.try_get("oid") or "", token.get_value()
        await asyncio.gather(
            self._log_in(user.encode(), password.encode()), *(part.re_auth_callback(token) for part in self._parts())
        )
