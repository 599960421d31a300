"""The transport through a client whose connections are not redis-py's own."""

import asyncio
from collections.abc import Mapping
from math import inf
from typing import Any, cast

from redis import exceptions as redis_errors

from sessioncore._watchers import Changed
from sessioncore.storage.redis._errors import ConnectionLost, error_reply_of
from sessioncore.storage.redis.connection._transport import Command, RedisReply, Transport
from sessioncore.storage.redis.connection._waiting import within
from sessioncore.storage.redis.connection._watched_keys import WatchedKeys

__all__ = ["ClientTransport"]

_MOST_CONNECTIONS = 64  # of the client's, in use at the same time
_ERROR_REPLIES = (
    redis_errors.AuthenticationError,
    redis_errors.BusyLoadingError,
    redis_errors.ResponseError,
    redis_errors.ClusterDownError,
    redis_errors.MasterDownError,
)


class ClientTransport:
    """A `Transport` through a client whose connections are not redis-py's own.

    It sends one command per round trip. Such a client (a fake, a wrapper) may repeat a write whose reply was lost, by
    its own settings.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        # redis-py's usual pool raises an error instead of waiting.
        connections: int = getattr(getattr(client, "connection_pool", None), "max_connections", _MOST_CONNECTIONS)
        self._room = asyncio.Semaphore(min(connections, _MOST_CONNECTIONS))
        self._watched = WatchedKeys()

    async def read(self, key: bytes, *commands: Command, deadline: float = inf) -> list[RedisReply]:
        return await within(deadline, self._each(commands))

    write = read

    async def get_with_ttl(self, key: bytes, deadline: float) -> list[RedisReply]:
        return await self.read(key, (b"GET", key), (b"PTTL", key), deadline=deadline)

    async def get_watched(self, key: bytes, changed: Changed, deadline: float) -> list[RedisReply]:
        """Read the key now, and again at each `confirm`: such a client passes no pushes on."""
        self._watched.watch(key, changed)
        value, left = await self.get_with_ttl(key, deadline)
        self._watched.answered(key, value, pushed=False)
        return [value, left]

    def unwatch(self, key: str, changed: Changed) -> None:
        self._watched.remove(key, changed)

    async def confirm(self) -> None:
        """Read again what is watched."""
        await self._watched.poll(lambda key: self.get_with_ttl(key, inf))

    async def servers(self) -> Mapping[str, Transport]:
        return {"": self}

    async def authenticate(self, user: bytes, password: bytes) -> None:
        """Do nothing: the client does it."""

    async def aclose(self) -> None:
        """Do nothing: the client belongs to the application."""

    async def _each(self, commands: tuple[Command, ...]) -> list[RedisReply]:
        return [await self._one(command) for command in commands]

    async def _one(self, command: Command) -> RedisReply:
        name = cast("bytes", command[0]).decode()
        try:
            async with self._room:
                return await self._client.execute_command(name, *command[1:])
        except _ERROR_REPLIES as exc:
            return error_reply_of(exc)
        except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as exc:
            raise ConnectionLost("the client lost its connection") from exc
