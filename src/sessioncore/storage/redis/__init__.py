"""Records in Redis or Valkey; see `RedisStorage`."""

from sessioncore.storage.redis._storage import RedisStorage

__all__ = ["RedisStorage"]
