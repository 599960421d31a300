"""Records in Redis or Valkey; see `RedisStorage`."""

from sessioncore.storage.redis._storage import RedisStorage
from sessioncore.storage.redis.near._cache import NearCache, NearCacheStats

__all__ = ["NearCache", "NearCacheStats", "RedisStorage"]
