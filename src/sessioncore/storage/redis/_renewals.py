"""Renewed credentials, for connections that are already open.

A streaming provider of redis-py, such as one that brings tokens of a cloud, calls back when it has
new ones: a connection that does not log in again is closed when the old token ends. Providers may
keep one callback only, so ours calls what redis-py's clients would have had called, as redis-py's
own listeners do that come later than the client's.
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
        """Ask to be called; again, after redis-py has done so for itself."""
        if isinstance(self._provider, StreamingCredentialProvider):
            callback: Any = self._renewed  # redis-py awaits it, though its annotation does not say so
            self._provider.on_next(callback)

    async def _renewed(self, token: Any) -> None:
        user, password = token.try_get("oid") or "", token.get_value()
        await asyncio.gather(
            self._log_in(user.encode(), password.encode()), *(part.re_auth_callback(token) for part in self._parts())
        )
