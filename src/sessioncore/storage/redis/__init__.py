"""Records in Redis or Valkey; see `RedisStorage`."""

from sessioncore.storage.redis._near_cache import NearCache, NearCacheStats
from sessioncore.storage.redis._storage import RedisStorage

__all__ = ["NearCache", "NearCacheStats", "RedisStorage"]
